//! Which address is looked for.

use events::{Gfn, Gva, Level, Pfn};

use super::mapping::Leaf;

/// Which address, as the 4 KiB page that it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A guest-virtual address, in every address space of the guest.
    Gva(Gva),
    /// A guest frame.
    Gfn(Gfn),
    /// A host frame.
    Pfn(Pfn),
}

impl Target {
    /// Whether a leaf may map it. Of a GVA, only the leaf's place in its table is known here.
    pub(super) fn may_be(self, leaf: &Leaf, index: u16) -> bool {
        let pages = leaf.level.pages();
        let within = |first: u64, frame: u64| frame & !(pages - 1) == first & !(pages - 1);
        match self {
            Self::Gva(gva) => leaf.level.index(gva) == Some(index),
            Self::Gfn(gfn) => leaf.gfn.is_some_and(|first| within(first.0, gfn.0)),
            Self::Pfn(pfn) => within(leaf.spte.pfn().0, pfn.0),
        }
    }

    /// Whether a leaf at `level` that maps from `first` on maps it, if it is an address.
    pub(super) fn is_in(self, first: Gva, level: Level) -> bool {
        match self {
            Self::Gva(gva) => (gva.0 ^ first.0) & !((level.pages() << 12) - 1) == 0,
            Self::Gfn(_) | Self::Pfn(_) => true,
        }
    }

    /// For people.
    pub fn name(self) -> String {
        match self {
            Self::Gva(gva) => format!("gva {}", Gva(gva.0 & !0xfff)),
            Self::Gfn(gfn) => format!("gfn {gfn} (gpa {})", gfn.gpa(0)),
            Self::Pfn(pfn) => format!("pfn {pfn} (hpa {})", pfn.hpa()),
        }
    }
}
