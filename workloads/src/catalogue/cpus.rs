//! Workloads of several CPUs.

use abi::{MAX_VCPUS, WorkloadId};

use super::{SEED, Workload, count};
use crate::{Kind, Param};

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "smp",
        stresses: "several CPUs on one root or on roots of their own, which change tables that others use",
        params: &[
            count("vcpus", "CPUs", [2, MAX_VCPUS as u64]).or("2"),
            Param {
                name: "roots",
                doc: "one space for all, one for each CPU, or both by turns",
                kind: Kind::Choice(&["shared", "own", "mixed"]),
                default: "shared",
            },
            count("pages", "pages that all CPUs have in common", [4, 4096]).or("64"),
            count(
                "steps",
                "steps of each CPU: a page loaded, stored to or changed",
                [1, 1_000_000],
            )
            .or("600"),
            SEED,
        ],
        expected: "Each CPU loads all pages, and stores to its own, moves, unmaps and protects them, \
                   in every space; all CPUs do an INVLPG for each change. With roots of their own each \
                   CPU has a root and three shadow pages or more.",
        hidden: false,
        id: WorkloadId::Smp,
    },
    Workload {
        name: "mixed",
        stresses: "everything at once, as a seed picks it: the soak",
        params: &[
            count("vcpus", "CPUs", [1, MAX_VCPUS as u64]).or("2"),
            count("steps", "steps of each CPU", [1, 10_000_000]).or("300"),
            SEED,
        ],
        expected: "What `smp`, `remap`, `unsync`, `protect`, `flood`, `fork`, `huge`, `alias` and \
                   `switch` do, drawn at random on each CPU, while the host reclaims work frames, logs \
                   dirty pages of all other memory, and deletes and moves the work frames' memslot. \
                   With an odd seed each CPU has tables of its own.",
        hidden: false,
        id: WorkloadId::Mixed,
    },
];
