//! The workload that times single operations.

use abi::{MAX_BATCHES, WorkloadId};

use super::{SEED, Workload, count};
use crate::{Kind, Param};

pub(super) const WORKLOADS: &[Workload] = &[Workload {
    name: "micro",
    stresses: "one operation again and again, timed by the guest's own clock",
    params: &[
        Param {
            name: "op",
            doc: "the operation",
            kind: Kind::Choice(&[
                "shadow-fault",
                "page-fault",
                "protection-fault",
                "map-unmap",
                "cr3-switch",
                "hypercall",
                "exception",
                "cpuid",
                "pio",
                "fork",
                "syscall",
                "syscall-kpti",
            ]),
            default: "page-fault",
        },
        count(
            "ops",
            "operations of a batch; a fork is a batch of its own",
            [1, 512],
        )
        .or("16"),
        count("batches", "batches, each timed", [1, MAX_BATCHES as u64]).or("100"),
        count("pages", "pages of the address space, for op=fork", [1, 512]).or("128"),
        SEED,
    ],
    expected: "Each frame is stored to once before the first batch: a shadow fault for each page. \
               Then, for each operation, `shadow-fault`: one shadow fault; `page-fault`: a guest \
               page fault and a shadow fault; `protection-fault`: the same, and before it a shadow \
               fault of a load, which is not timed; `map-unmap`: one shadow fault. The others \
               fault little. The trace's metadata holds the time of each batch.",
    hidden: false,
    id: WorkloadId::Micro,
}];
