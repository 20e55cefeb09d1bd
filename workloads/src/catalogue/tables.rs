//! Workloads in which the guest changes its own tables, on one CPU.

use abi::WorkloadId;

use super::{SEED, Workload, count};
use crate::{Kind, Param};

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "remap",
        stresses: "pages unmapped and mapped again to other frames, with INVLPG or a CR3 load",
        params: &[
            count(
                "pages",
                "pages of the work range; there are twice as many frames",
                [1, 4096],
            )
            .or("256"),
            count(
                "rounds",
                "times that each page is mapped elsewhere",
                [1, 1000],
            )
            .or("3"),
            count(
                "batch",
                "1: an INVLPG for each page; more: a CR3 load after as many",
                [1, 4096],
            )
            .or("1"),
            SEED,
        ],
        expected: "For each page and round two stores to its entry, an INVLPG (or its part of a CR3 \
                   load) and one shadow fault; in one of 16 a load before it is mapped again, which \
                   is a fault of the guest's own. Where the kernel's stores are emulated, each clears \
                   an entry; where not, leaf tables go unsync and are synced by the flush.",
        hidden: false,
        id: WorkloadId::Remap,
    },
    Workload {
        name: "switch",
        stresses: "CR3 loads among more address spaces than KVM keeps roots for",
        params: &[
            count("spaces", "address spaces, taken in turn", [1, 64]).or("6"),
            count("pages", "pages touched in each", [1, 512]).or("16"),
            count(
                "rounds",
                "turns after the first, in which pages are loaded",
                [1, 1000],
            )
            .or("20"),
            Param {
                name: "shared",
                doc: "all spaces have the same tables below the root",
                kind: Kind::Flag,
                default: "false",
            },
            SEED,
        ],
        expected: "Phase `touch`: a root for each space, three shadow pages below it and one shadow \
                   fault a page; with shared=true three shadow pages in all, and in each later space \
                   one fault, which only links them. Phase `check`: no fault in the work range, \
                   whatever number of roots: KVM finds the pages again.",
        hidden: false,
        id: WorkloadId::Switch,
    },
    Workload {
        name: "fork",
        stresses: "an address space copied read-only, and copy-on-write on both sides",
        params: &[
            count("pages", "pages of the parent", [1, 4096]).or("128"),
            count("rounds", "forks, one after the other", [1, 1000]).or("4"),
            count(
                "writes",
                "stores in each round, by parent or child",
                [1, 100_000],
            )
            .or("128"),
            SEED,
        ],
        expected: "In each round W is taken from all of the parent's entries, and four tables or more \
                   are made and shadowed for the child. The first store to a page on either side is a \
                   fault of the guest's own for a present page, then a store to its entry, an INVLPG \
                   and a shadow fault. At the end of a round the child's tables are cleared and used \
                   again, often at another level: KVM zaps what shadows them.",
        hidden: false,
        id: WorkloadId::Fork,
    },
    Workload {
        name: "unsync",
        stresses: "leaf tables that CPL3 writes itself: they go unsync, and are synced by flushes",
        params: &[
            count("tables", "leaf tables", [1, 64]).or("4"),
            count("pages", "pages used of each", [1, 64]).or("16"),
            count(
                "rounds",
                "times that entries are changed, flushed and used",
                [1, 10_000],
            )
            .or("12"),
            Param {
                name: "flush",
                doc: "how stale translations are forgotten",
                kind: Kind::Choice(&["cr3", "invlpg", "mixed"]),
                default: "mixed",
            },
            SEED,
        ],
        expected: "In each round each table goes unsync at its first store, unless it is so still; \
                   with cr3 all are synced by one CR3 load, with invlpg one entry at a time. Entries \
                   vanish, change their frame or lose W by that. One entry in four changes; loads and \
                   stores that the new entries refuse are faults of the guest's own.",
        hidden: false,
        id: WorkloadId::Unsync,
    },
    Workload {
        name: "flood",
        stresses: "repeated stores to a page directory: KVM zaps its shadow for write flooding",
        params: &[
            count("stores", "stores to one entry in each round", [1, 10_000]).or("8"),
            count(
                "rounds",
                "times that the entry is written and all is used",
                [1, 10_000],
            )
            .or("40"),
            Param {
                name: "via",
                doc: "who stores: the guest's kernel, or CPL3 in a mapping of its own",
                kind: Kind::Choice(&["kernel", "user"]),
                default: "kernel",
            },
            SEED,
        ],
        expected: "Each store is emulated. From the third on without a walk in between, KVM counts a \
                   flood and zaps the shadow page (`mmu_flooded`); the accesses that follow build it \
                   again and link the leaf tables, which it finds, where they are not zapped too.",
        hidden: false,
        id: WorkloadId::Flood,
    },
    Workload {
        name: "protect",
        stresses: "permissions taken and given: W, U, P and NX, with INVLPG",
        params: &[
            count("pages", "pages of the work range", [1, 4096]).or("64"),
            count(
                "rounds",
                "times that each page gets other permissions",
                [1, 1000],
            )
            .or("4"),
            SEED,
        ],
        expected: "After each change a store, a load and a call: each is refused exactly if the \
                   guest's entry says so (a fault of the guest's own), else it goes through, with a \
                   shadow fault where the shadow entry was dropped.",
        hidden: false,
        id: WorkloadId::Protect,
    },
    Workload {
        name: "huge",
        stresses: "2 MiB pages of the guest, split into tables and merged again",
        params: &[
            count("regions", "pages of 2 MiB", [1, 64]).or("4"),
            count(
                "rounds",
                "times that each is split or merged, with a chance of one half",
                [1, 1000],
            )
            .or("8"),
            Param {
                name: "backing",
                doc: "the host's memory behind them: 4 KiB pages, or transparent huge ones",
                kind: Kind::Choice(&["small", "huge"]),
                default: "small",
            },
            SEED,
        ],
        expected: "A large page over small host memory is shadowed by a direct page of 512 entries; \
                   over huge memory, where KVM may, by one entry of level 2. A split replaces it by a \
                   table, a merge the other way round.",
        hidden: false,
        id: WorkloadId::Huge,
    },
    Workload {
        name: "alias",
        stresses: "many addresses of one frame: long rmap chains, past KVM's limit of 1,000",
        params: &[
            count("aliases", "pages, all mapped to one frame", [1, 4096]).or("1200"),
            SEED,
        ],
        expected: "Phase `touch`: one shadow fault a page, until the frame has more than 1,000 \
                   entries: then KVM drops all of them (no event says so), and they come back one \
                   fault at a time, seven neighbours with each, since their guest entries are \
                   accessed by now. Phase `check`: the same again.",
        hidden: false,
        id: WorkloadId::Alias,
    },
    Workload {
        name: "recycle",
        stresses: "more tables than KVM may shadow at a time (KVM_SET_NR_MMU_PAGES)",
        params: &[
            count("tables", "leaf tables, each with one page", [1, 2000]).or("160"),
            count(
                "passes",
                "passes over all of them, after the first",
                [1, 1000],
            )
            .or("3"),
            count("mmu_pages", "shadow pages that KVM may have", [64, 100_000]).or("80"),
            SEED,
        ],
        expected: "With fewer shadow pages than tables KVM zaps the oldest ones (`mmu_recycled`), and \
                   each pass faults them in again: a shadow page and an entry each time.",
        hidden: false,
        id: WorkloadId::Recycle,
    },
];
