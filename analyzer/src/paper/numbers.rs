//! What the paper published, as its tables print it.

use serde::Serialize;

/// The paper.
pub const SOURCE: &str = "PVM, SOSP 2023, doi 10.1145/3600006.3613158";

/// The configurations: on bare metal (BM) and nested in a VM (NST). `kvm` is KVM in Table 1, and
/// KVM with shadow paging (kvm-spt) in Tables 2 to 4.
pub const CONFIGS: [&str; 4] = ["kvm BM", "pvm BM", "kvm NST", "pvm NST"];

/// The nearest operation of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    /// Our operation.
    pub op: &'static str,
    /// Where it is in the paper; null if the paper has no such operation.
    pub table: Option<&'static str>,
    /// Its time in each of [`CONFIGS`], us; null where the paper gives none.
    pub us: [Option<f64>; 4],
    /// The number is of one operation, so that it can be compared in proportion.
    pub of_one: bool,
    /// What differs.
    pub differs: &'static str,
}

impl Published {
    /// Whether its `kvm` is KVM with shadow paging.
    pub fn shadows(&self) -> bool {
        self.table
            .is_some_and(|table| !table.starts_with("Table 1"))
    }
}

const fn one(
    op: &'static str,
    table: &'static str,
    us: [Option<f64>; 4],
    differs: &'static str,
) -> Published {
    Published {
        op,
        table: Some(table),
        us,
        of_one: true,
        differs,
    }
}

const fn none(op: &'static str, differs: &'static str) -> Published {
    Published {
        op,
        table: None,
        us: [None; 4],
        of_one: false,
        differs,
    }
}

/// Each operation of `micro`.
pub const OPERATIONS: [Published; 12] = [
    none(
        "shadow-fault",
        "the paper times it as a part of its page fault only",
    ),
    one(
        "page-fault",
        "Table 4",
        [Some(0.93), Some(0.88), None, Some(1.01)],
        "LMbench touches pages of a mapped file; here the handler stores one entry",
    ),
    one(
        "protection-fault",
        "Table 4",
        [Some(3.17), Some(2.65), None, Some(2.69)],
        "LMbench's ends in a signal handler; here the handler makes the page writable",
    ),
    Published {
        op: "map-unmap",
        table: Some("Table 4"),
        us: [Some(125_900.0), Some(115_200.0), None, Some(118_200.0)],
        of_one: false,
        differs: "LMbench maps, touches and unmaps a file, whose size the table does not give: no \
                  ratio; here a page, with two requests of the guest's kernel",
    },
    none(
        "cr3-switch",
        "the paper's tables have none; here with a request of the guest's kernel",
    ),
    one(
        "hypercall",
        "Table 1",
        [Some(0.46), Some(0.54), Some(7.43), Some(0.48)],
        "here a number that KVM does not know",
    ),
    one(
        "exception",
        "Table 1",
        [Some(1.66), Some(1.67), Some(9.20), Some(2.21)],
        "here #DE at CPL 3, to a handler of three instructions",
    ),
    one(
        "cpuid",
        "Table 1",
        [Some(0.54), Some(0.60), Some(7.10), Some(0.51)],
        "here in the guest's kernel",
    ),
    one(
        "pio",
        "Table 1",
        [Some(3.79), Some(4.91), Some(29.34), Some(12.94)],
        "here IN of 32 bits from a port that the VMM serves",
    ),
    Published {
        op: "fork",
        table: Some("Table 3, one process"),
        us: [Some(505.0), Some(437.0), None, None],
        of_one: false,
        differs: "LMbench forks a process of Linux that exits, whose size the table does not give: \
                  no ratio; here the tables of `pages` pages are copied and both sides \
                  write-protected",
    },
    one(
        "syscall",
        "Table 2, without KPTI",
        [Some(0.06), None, None, None],
        "the paper calls getpid; here the handler answers at once",
    ),
    one(
        "syscall-kpti",
        "Table 2, with KPTI",
        [Some(2.09), None, None, None],
        "the paper calls getpid (its PVM, whose kernel always has a root of its own: 0.29 us with \
         its direct switch, 1.91 us without); here the handler is between two loads of CR3",
    ),
];
