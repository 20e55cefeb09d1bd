//! Workloads in which the guest changes its own tables, on one CPU.

use abi::WorkloadId;

use super::{SEED, Workload, count};
use crate::{Kind, Param};

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "remap",
        stresses: "pages are unmapped and mapped again to other frames, with INVLPG or a CR3 load",
        params: &[
            count(
                "pages",
                "pages of the work range; there are twice as many frames",
                [1, 4096],
            )
            .or("256"),
            count(
                "rounds",
                "times that each page is mapped to another frame",
                [1, 1000],
            )
            .or("3"),
            count(
                "batch",
                "1: an INVLPG for each page; N: a CR3 load after every N pages",
                [1, 4096],
            )
            .or("1"),
            SEED,
        ],
        expected: "For each page and round two stores to its entry, an INVLPG (or a CR3 load for \
                   the batch) and one shadow fault; one time in 16 also a load while it is \
                   unmapped, which is a guest page fault. Where the kernel's stores are emulated, \
                   each clears a shadow entry; elsewhere leaf tables become unsync, and the flush \
                   syncs them.",
        hidden: false,
        id: WorkloadId::Remap,
    },
    Workload {
        name: "switch",
        stresses: "CR3 loads of more address spaces than KVM caches roots",
        params: &[
            count("spaces", "address spaces, loaded in turn", [1, 64]).or("6"),
            count("pages", "pages touched in each", [1, 512]).or("16"),
            count(
                "rounds",
                "rounds after the first one, in which pages are loaded",
                [1, 1000],
            )
            .or("20"),
            Param {
                name: "shared",
                doc: "all spaces share their tables below the root",
                kind: Kind::Flag,
                default: "false",
            },
            SEED,
        ],
        expected: "Phase `touch`: a root for each space, three shadow pages below it and one \
                   shadow fault for each page; with shared=true three shadow pages altogether, and \
                   in each further space one fault, which only links them. Phase `check`: no fault \
                   in the work range for any number of roots: KVM finds the shadow pages again.",
        hidden: false,
        id: WorkloadId::Switch,
    },
    Workload {
        name: "fork",
        stresses: "an address space is copied read-only, with copy-on-write in both",
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
        expected: "In each round the guest removes W from all entries of the parent, and KVM \
                   shadows four tables or more of the child. The first store to a page on either \
                   side causes a guest page fault for a present page, then a store to its entry, \
                   an INVLPG and a shadow fault. At the end of a round the child's tables are \
                   cleared and reused, often at another level: KVM zaps their shadow pages.",
        hidden: false,
        id: WorkloadId::Fork,
    },
    Workload {
        name: "unsync",
        stresses: "CPL3 writes its own leaf tables: they become unsync, and flushes sync them",
        params: &[
            count("tables", "leaf tables; times pages at most 8192", [1, 4096]).or("4"),
            count("pages", "used pages of each table", [1, 64]).or("16"),
            count(
                "rounds",
                "rounds of changes, flushes and accesses",
                [1, 10_000],
            )
            .or("12"),
            Param {
                name: "flush",
                doc: "how stale translations are flushed",
                kind: Kind::Choice(&["cr3", "invlpg", "mixed"]),
                default: "mixed",
            },
            SEED,
        ],
        expected: "In each round each table becomes unsync at its first store, unless it still is; \
                   with cr3 one CR3 load syncs all of them, with invlpg one entry is synced at a \
                   time. One entry in four changes: it is cleared, gets another frame or loses W. \
                   Loads and stores that the new entries refuse are guest page faults.",
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
                "rounds of stores to the entry and accesses to all pages",
                [1, 10_000],
            )
            .or("40"),
            Param {
                name: "via",
                doc: "who stores: the guest's kernel, or CPL3 through its own mapping",
                kind: Kind::Choice(&["kernel", "user"]),
                default: "kernel",
            },
            SEED,
        ],
        expected: "Each store is emulated. From the third one without a walk in between, KVM \
                   counts a flood and zaps the shadow page (`mmu_flooded`). The next accesses \
                   create it again and link the shadow pages of the leaf tables, unless these were \
                   zapped too.",
        hidden: false,
        id: WorkloadId::Flood,
    },
    Workload {
        name: "protect",
        stresses: "permissions revoked and granted: W, U, P and NX, with INVLPG",
        params: &[
            count("pages", "pages of the work range", [1, 4096]).or("64"),
            count(
                "rounds",
                "times that the permissions of each page change",
                [1, 1000],
            )
            .or("4"),
            SEED,
        ],
        expected: "After each change a store, a load and a call. Each is refused (a guest page \
                   fault) if and only if the guest's entry forbids it; otherwise it succeeds, with \
                   a shadow fault where KVM dropped the shadow entry.",
        hidden: false,
        id: WorkloadId::Protect,
    },
    Workload {
        name: "access",
        stresses: "every combination of an entry's bits, tried by the same instructions",
        params: &[
            count("rounds", "times that all combinations are tried", [1, 1000]).or("1"),
            Param {
                name: "order",
                doc: "whether P changes after all other bits, or before them",
                kind: Kind::Choice(&["present-last", "present-first"]),
                default: "present-last",
            },
            SEED,
        ],
        expected: "32 combinations of A, D, W, U and NX, without and with P, for a load, a store \
                   and a call: each access is refused if and only if the entry forbids it. With \
                   order=present-last each instruction faults 32 times in a row at one address \
                   while no shadow entry changes.",
        hidden: false,
        id: WorkloadId::Access,
    },
    Workload {
        name: "huge",
        stresses: "2 MiB pages of the guest are split into tables and merged again",
        params: &[
            count("regions", "number of 2 MiB pages", [1, 64]).or("4"),
            count(
                "rounds",
                "rounds; in each, every page is split or merged with a probability of one half",
                [1, 1000],
            )
            .or("8"),
            Param {
                name: "backing",
                doc: "the host's memory: 4 KiB pages, or transparent huge pages",
                kind: Kind::Choice(&["small", "huge"]),
                default: "small",
            },
            SEED,
            Param {
                name: "prevent",
                doc: "what keeps KVM from huge pages, over huge pages of the host: 4 KiB entries \
                      of the guest, a slot whose HVA lies differently, a guest table in the page, \
                      dirty logging",
                kind: Kind::Choice(&["nothing", "entries", "alignment", "tables", "dirty"]),
                default: "nothing",
            },
        ],
        expected: "KVM shadows a large page over small host pages with a direct shadow page of 512 \
                   entries; over huge pages, if it can, with one entry of level 2. A split \
                   replaces this by the shadow of a table; a merge does the opposite. With `prevent` \
                   no region is split or merged, and KVM maps none of them by an entry of level \
                   2.",
        hidden: false,
        id: WorkloadId::Huge,
    },
    Workload {
        name: "alias",
        stresses: "many virtual addresses of one frame: rmap chains beyond KVM's limit of 1,000",
        params: &[
            count("aliases", "pages, all mapped to one frame", [1, 4096]).or("1200"),
            SEED,
        ],
        expected: "Phase `touch`: one shadow fault for each page, until the frame has more than \
                   1,000 entries. Then KVM drops all of them, without a tracepoint. Each further \
                   fault writes its entry and prefetches seven neighbours, whose guest entries are \
                   accessed already. Phase `check`: the same.",
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
            count("mmu_pages", "maximum number of shadow pages", [64, 100_000]).or("80"),
            SEED,
        ],
        expected: "With fewer shadow pages than tables KVM zaps the oldest ones (`mmu_recycled`). \
                   Each pass faults them in again, with a new shadow page and an entry for each.",
        hidden: false,
        id: WorkloadId::Recycle,
    },
];
