//! Workloads in which the host does something about the guest's memory.

use abi::WorkloadId;

use super::{SEED, Workload, count};
use crate::{Kind, Param};

const PAGES: [u64; 2] = [16, 16384];
/// Passes of the host's actors.
const PASSES: Param = count(
    "passes",
    "passes that the host makes; the guest goes on until then",
    [1, 1_000_000],
)
.or("64");

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "reclaim",
        stresses: "guest memory that the host takes back: thrown away, protected, moved",
        params: &[
            count("pages", "pages; the first half may lose its content", PAGES).or("512"),
            PASSES,
            SEED,
        ],
        expected: "In each pass the host invalidates an eighth of either half; all entries of those \
                   frames vanish, and the guest's next accesses fault them in again. A page of the \
                   first half holds zero or what was stored last, one of the second always the latter.",
        hidden: false,
        id: WorkloadId::Reclaim,
    },
    Workload {
        name: "dirty",
        stresses: "dirty logging, as in live migration, of pages that are rewritten meanwhile",
        params: &[
            count("pages", "pages of the logged memslot", PAGES).or("512"),
            PASSES,
            Param {
                name: "clear",
                doc: "the log is got, then cleared by KVM_CLEAR_DIRTY_LOG",
                kind: Kind::Flag,
                default: "false",
            },
            Param {
                name: "toggle",
                doc: "logging is switched off and on again after every eighth pass",
                kind: Kind::Flag,
                default: "true",
            },
            Param {
                name: "pattern",
                doc: "order in which pages are used",
                kind: Kind::Choice(&["sequential", "stride", "random"]),
                default: "random",
            },
            SEED,
        ],
        expected: "When logging begins all entries of the slot lose W; each pass takes it from those \
                   that were written since the last one. The next store to each is a shadow fault \
                   that gives it back.",
        hidden: false,
        id: WorkloadId::Dirty,
    },
    Workload {
        name: "memslot",
        stresses: "memslots deleted, added and moved under the guest",
        params: &[
            count("pages", "pages of the memslot", PAGES).or("256"),
            PASSES,
            SEED,
        ],
        expected: "A deletion zaps all shadow pages (or, on newer kernels, the slot's entries). While \
                   the slot is away the VMM serves the guest's accesses, which are MMIO then.",
        hidden: false,
        id: WorkloadId::Memslot,
    },
];
