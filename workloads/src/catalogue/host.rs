//! Workloads in which the host changes the guest's memory.

use abi::WorkloadId;

use super::{SEED, Workload, count};
use crate::{Kind, Param};

const PAGES: [u64; 2] = [16, 16384];
/// Passes of the host's actors.
const PASSES: Param = count(
    "passes",
    "passes of the host; the guest works until they are done",
    [1, 1_000_000],
)
.or("64");

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "reclaim",
        stresses: "the host reclaims guest memory: discards, protects and moves it",
        params: &[
            count(
                "pages",
                "number of pages; the host may discard the first half",
                PAGES,
            )
            .or("512"),
            PASSES,
            SEED,
        ],
        expected: "In each pass the host invalidates an eighth of either half: all entries of \
                   those frames are zapped, and the guest's next accesses fault them in again. A \
                   page of the first half holds zero or the last stored value, one of the second \
                   half always the last stored value.",
        hidden: false,
        id: WorkloadId::Reclaim,
    },
    Workload {
        name: "dirty",
        stresses: "dirty logging, as in live migration, of pages that the guest writes meanwhile",
        params: &[
            count("pages", "pages of the logged memslot", PAGES).or("512"),
            PASSES,
            Param {
                name: "clear",
                doc: "clear the log with KVM_CLEAR_DIRTY_LOG after each KVM_GET_DIRTY_LOG",
                kind: Kind::Flag,
                default: "false",
            },
            Param {
                name: "toggle",
                doc: "switch logging off and on again after every eighth pass",
                kind: Kind::Flag,
                default: "true",
            },
            Param {
                name: "pattern",
                doc: "order in which pages are accessed",
                kind: Kind::Choice(&["sequential", "stride", "random"]),
                default: "random",
            },
            SEED,
        ],
        expected: "When logging begins, KVM removes W from all entries of the slot; each pass \
                   removes it from those that were written since the last pass. The next store to \
                   each is a shadow fault that restores W.",
        hidden: false,
        id: WorkloadId::Dirty,
    },
    Workload {
        name: "memslot",
        stresses: "memslots deleted, added and moved while the guest runs",
        params: &[
            count("pages", "pages of the memslot", PAGES).or("256"),
            PASSES,
            SEED,
        ],
        expected: "A deletion zaps all shadow pages (or, on newer kernels, the slot's entries). \
                   While the slot is away, the guest's accesses are MMIO, which the VMM serves.",
        hidden: false,
        id: WorkloadId::Memslot,
    },
];
