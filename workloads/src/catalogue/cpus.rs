//! Workloads with several CPUs.

use abi::{MAX_PROCESSES, MAX_VCPUS, WorkloadId};

use super::{SEED, Workload, count};
use crate::{Kind, Param};

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "smp",
        stresses: "several CPUs, on one root or on separate roots, change tables that the others \
                   use",
        params: &[
            count("vcpus", "number of CPUs", [2, MAX_VCPUS as u64]).or("2"),
            Param {
                name: "roots",
                doc: "one address space for all, one for each CPU, or both in turn",
                kind: Kind::Choice(&["shared", "own", "mixed"]),
                default: "shared",
            },
            count("pages", "pages that all CPUs share", [4, 4096]).or("64"),
            count(
                "steps",
                "steps of each CPU: each loads, stores to or changes a page",
                [1, 1_000_000],
            )
            .or("600"),
            SEED,
        ],
        expected: "Each CPU loads all pages; it also stores to its own, moves, unmaps and protects \
                   them in every address space. All CPUs do an INVLPG for each change. With \
                   separate roots each CPU has a root and three shadow pages or more.",
        hidden: false,
        id: WorkloadId::Smp,
    },
    Workload {
        name: "alloc",
        stresses: "processes, each with its own CR3, map, touch and release 1 MiB again and again",
        params: &[
            count("vcpus", "number of CPUs", [1, MAX_VCPUS as u64]).or("1"),
            count(
                "processes",
                "processes; each CPU runs its part of them in turn, a piece each",
                [1, MAX_PROCESSES],
            )
            .or("1"),
            count(
                "mib",
                "pieces of 1 MiB of each process, one after another",
                [1, 4096],
            )
            .or("8"),
            Param {
                name: "populate",
                doc: "map a piece before it is touched, not each page when it faults",
                kind: Kind::Flag,
                default: "false",
            },
            SEED,
        ],
        expected: "Phase `work`: for each page of each piece a guest page fault (none with \
                   populate=true) and one shadow fault; then all entries of the piece are cleared, \
                   and a CR3 load flushes them. A root and three shadow pages for each process, \
                   and no entry at the end.",
        hidden: false,
        id: WorkloadId::Alloc,
    },
    Workload {
        name: "mixed",
        stresses: "everything at once, at random: a soak test",
        params: &[
            count("vcpus", "number of CPUs", [1, MAX_VCPUS as u64]).or("2"),
            count("steps", "steps of each CPU", [1, 10_000_000]).or("300"),
            SEED,
        ],
        expected: "What `smp`, `remap`, `unsync`, `protect`, `flood`, `fork`, `huge`, `alias` and \
                   `switch` do, chosen at random on each CPU, while the host reclaims work frames, \
                   logs dirty pages of all other memory, and deletes and moves the memslot of the \
                   work frames. With an odd seed each CPU has its own tables.",
        hidden: false,
        id: WorkloadId::Mixed,
    },
];
