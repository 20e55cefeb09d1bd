//! Workloads over one range of pages, each touched once.

use abi::{MAX_PAGES, WorkloadId};

use super::Workload;
use crate::{Kind, Param};

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "linear",
        stresses: "pure shadow faults: the guest maps its whole range before it touches a page",
        params: RANGE_PARAMS,
        expected: "Phase `map`: no fault in the work range; the guest only fills its own tables. \
                   Phase `touch`: one shadow fault a page and no fault of the guest's own; a new \
                   shadow page every 512 pages. Phase `check`: none. With write=false the faults of \
                   `touch` are reads that leave read-only entries, all to the host's page of zeroes, \
                   and phase `write` has two faults a page: one that makes the host replace that \
                   page, is invalidated by that and retried, and one that writes the entry.",
        hidden: false,
        id: WorkloadId::Linear,
    },
    Workload {
        name: "demand",
        stresses: "demand paging: each page costs a fault of the guest's own and a shadow fault",
        params: RANGE_PARAMS,
        expected: "Phase `touch`: for each page first a fault of the guest's own (injected), then the \
                   guest kernel's store to its page table, then one shadow fault at the same address; \
                   a new shadow page every 512 pages. Phase `check`: none. With write=false the \
                   shadow fault is a read, and phase `write` is that of `linear`.",
        hidden: false,
        id: WorkloadId::Demand,
    },
    Workload {
        name: "crash",
        stresses: "the VMM itself: a guest that misbehaves as asked",
        params: &[Param {
            name: "kind",
            doc: "how to misbehave",
            kind: Kind::Choice(&[
                "triple",
                "loop",
                "kernel-loop",
                "outside",
                "panic",
                "exception",
                "port",
                "bad-call",
                "bad-mailbox",
                "halt",
                "wrong-value",
                "port-read",
            ]),
            default: "panic",
        }],
        expected: "The run ends with an error that says what the guest did, and the trace is complete \
                   up to there.",
        hidden: true,
        id: WorkloadId::Crash,
    },
];

/// Parameters of the workloads that touch one range.
const RANGE_PARAMS: &[Param] = &[
    Param {
        name: "pages",
        doc: "pages of the work range, 4 KiB each",
        kind: Kind::Count {
            min: 1,
            max: MAX_PAGES,
        },
        default: "4096",
    },
    Param {
        name: "pattern",
        doc: "order in which pages are touched, each exactly once",
        kind: Kind::Choice(&["sequential", "stride", "random"]),
        default: "sequential",
    },
    Param {
        name: "stride",
        doc: "distance of two touches in pages; used by pattern=stride",
        kind: Kind::Count {
            min: 1,
            max: MAX_PAGES,
        },
        default: "8",
    },
    Param {
        name: "seed",
        doc: "picks the order of pattern=random, and the values written",
        kind: Kind::Seed,
        default: "1",
    },
    Param {
        name: "write",
        doc: "true: the first touch is a store; false: a load, and a second pass stores",
        kind: Kind::Flag,
        default: "true",
    },
];
