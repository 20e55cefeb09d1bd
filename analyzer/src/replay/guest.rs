//! The guest's tables that shadow pages are for.

use events::{Gfn, Hpa, Level};

use super::{ShadowTables, tables::LARGEST_LEAF};

/// The guest table that a shadow page follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestTable {
    /// Its frame.
    pub gfn: Gfn,
    /// No leaf that is known to map the frame lets the guest write it: its next store to the table
    /// faults. A leaf whose guest frame no record has given yet is not known to map anything.
    pub write_protected: bool,
}

impl ShadowTables {
    /// The guest table that the page at `spt` shadows; none for a direct page, or an unknown one.
    pub fn guest_table(&self, spt: Hpa) -> Option<GuestTable> {
        let info = self.page(spt)?.info;
        (!info.direct).then(|| GuestTable {
            gfn: info.gfn,
            write_protected: self.writable_leaves(info.gfn).next().is_none(),
        })
    }

    /// The leaves through which the guest can write `gfn`, as far as they are known.
    pub fn writable_leaves(&self, gfn: Gfn) -> impl Iterator<Item = Hpa> {
        let places = self.leaves_of_any_level(gfn);
        places.filter(|place| self.entry(*place).is_some_and(|spte| spte.is_writable()))
    }

    /// The leaves that are known to map `gfn`.
    pub(crate) fn leaves_of_any_level(&self, gfn: Gfn) -> impl Iterator<Item = Hpa> {
        let levels = (1_u8..).take(LARGEST_LEAF).map(Level);
        let places = levels.flat_map(move |level| self.leaves_of(gfn, level));
        places.copied()
    }

    /// Whether a table above the leaf tables is in `gfn`: KVM write-protects it while that
    /// is shadowed (`account_shadowed`, `kvm_gfn_is_write_tracked`).
    pub fn is_upper_table(&self, gfn: Gfn) -> bool {
        self.upper_pages(gfn) > 0
    }

    /// Pages above the leaf tables that shadow the table in `gfn`.
    pub fn upper_pages(&self, gfn: Gfn) -> u64 {
        let level = |spt: &&Hpa| self.page(**spt).map(|page| page.info.level);
        let pages = self.shadowing(gfn).iter();
        pages.filter(|spt| level(spt) > Some(Level(1))).count() as u64
    }
}
