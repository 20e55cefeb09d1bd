//! Workloads that touch each page of one range once.

use abi::{MAX_PAGES, WorkloadId};

use super::Workload;
use crate::{Kind, Param};

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "linear",
        stresses: "shadow faults alone: the guest maps its whole range before it touches a page",
        params: RANGE_PARAMS,
        expected: "Phase `map`: no fault in the work range; the guest only fills its own tables. \
                   Phase `touch`: one shadow fault for each page and no guest page fault; a new \
                   shadow page for every 512 pages. Phase `check`: no fault. With write=false the \
                   faults of `touch` are reads that leave read-only entries, all to the host's \
                   zero page, and phase `write` has two faults for each page: the first makes the \
                   host replace the zero page, which invalidates the fault, so that KVM retries \
                   it; the second writes the entry.",
        hidden: false,
        id: WorkloadId::Linear,
    },
    Workload {
        name: "demand",
        stresses: "demand paging: each page costs a guest page fault and a shadow fault",
        params: RANGE_PARAMS,
        expected: "Phase `touch`: for each page first a guest page fault, which KVM injects, then \
                   the guest kernel's store to its page table, then one shadow fault at the same \
                   address; a new shadow page for every 512 pages. Phase `check`: no fault. With \
                   write=false the shadow fault is a read, and phase `write` is that of `linear`.",
        hidden: false,
        id: WorkloadId::Demand,
    },
    Workload {
        name: "crash",
        stresses: "the VMM itself: the guest misbehaves",
        params: &[Param {
            name: "kind",
            doc: "kind of misbehaviour",
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
        expected: "The run ends with an error that says what the guest did, and the trace is \
                   complete up to that.",
        hidden: true,
        id: WorkloadId::Crash,
    },
];

/// The parameters of these workloads.
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
        doc: "distance between two touches in pages, for pattern=stride",
        kind: Kind::Count {
            min: 1,
            max: MAX_PAGES,
        },
        default: "8",
    },
    Param {
        name: "seed",
        doc: "seed of the order of pattern=random, and of the values",
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
