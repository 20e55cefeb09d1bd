//! The workload whose guest has other shapes than four levels of 8-byte entries.

use abi::WorkloadId;

use super::{SEED, Workload, count};
use crate::{Kind, Param};

pub(super) const WORKLOADS: &[Workload] = &[Workload {
    name: "modes",
    stresses: "guests of other shapes: 32-bit, unpaged, five levels; bits that change permissions",
    params: &[
        Param {
            name: "shape",
            doc: "how the guest translates addresses, or the bit that it switches on and off",
            kind: Kind::Choice(&[
                "pae", "legacy32", "nopaging", "la57", "wp", "nx", "smep", "smap", "smm",
            ]),
            default: "pae",
        },
        count("pages", "pages of the work range", [8, 2048]).or("64"),
        count(
            "rounds",
            "times that the mode is entered and left",
            [1, 1000],
        )
        .or("4"),
        SEED,
    ],
    expected: "All of it runs at CPL0. In each round of `pae`, `legacy32` and `la57` the guest \
               leaves its four levels and uses all pages; eight entries are cleared, refused and \
               mapped again. 32-bit guests run on four PDPTEs that no shadow page holds; KVM \
               shadows a table of 4-byte entries by two pages or four, each a quadrant. \
               `nopaging` has direct shadow pages. The other shapes change what the same entries \
               allow: KVM shadows them anew where the bit is part of a shadow page's role (WP, \
               NXE), and not where it is the CPU's (SMEP, SMAP).",
    hidden: false,
    id: WorkloadId::Modes,
}];
