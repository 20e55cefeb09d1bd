//! Roots of level 3: four entries that no shadow page holds.
//!
//! A guest without paging, or with 32-bit paging, runs on `mmu->pae_root` (`mmu_alloc_direct_roots`
//! and `mmu_alloc_shadow_roots`, arch/x86/kvm/mmu/mmu.c): one page for each vCPU, with four
//! PDPTEs that have no bit 11, each pointing to a shadow page of level 2. They are read
//! when a vCPU loads the root. Where no function can be hooked, and in older traces, no record has a
//! PDPTE: then the leaf of a fault shows it, since KVM reached the leaf from there.

use std::collections::BTreeMap;

use events::{Hpa, Level, Spte, constants::PAE_ROOT_LEVEL};
use trace::{EntryRow, RootRow};

/// Level of such a root.
pub(crate) const LEVEL: Level = Level(PAE_ROOT_LEVEL);
/// Kept at most: KVM has at most 4096 vCPUs, each with one. Bounds a hostile trace.
const MAX_ROOTS: usize = 4096;
/// The P bit of a PDPTE.
const PRESENT: u64 = 1;

/// The tables that the PDPTEs of a PAE root point to, as far as they are known.
pub type Pdptes = [Option<Hpa>; 4];

/// Which PDPTE translates an address.
pub(super) const fn index(gva: u64) -> u16 {
    (gva >> 30 & 3) as u16
}

/// A PDPTE as KVM writes it, but for the bit of memory encryption.
pub(super) fn pdpte(table: Option<Hpa>) -> Spte {
    table.map_or(Spte(0), |table| Spte(table.0 | PRESENT))
}

/// The tables that the PDPTEs of a row point to.
fn pdptes(row: &RootRow) -> Option<Pdptes> {
    let table = |pdpte: Spte| (pdpte.0 & PRESENT != 0).then(|| pdpte.child());
    Some(row.pdptes()?.map(table))
}

/// The PAE roots of a VM.
#[derive(Clone, Debug, Default)]
pub(super) struct PaeRoots {
    roots: BTreeMap<Hpa, Pdptes>,
    ever: bool,
}

impl PaeRoots {
    /// Those that vCPUs run on at a keyframe are all there are: KVM clears the PDPTEs of others.
    pub(super) fn set_from(&mut self, roots: &[RootRow]) {
        let pae = roots
            .iter()
            .filter_map(|row| Some((row.root.table(), pdptes(row)?)));
        self.roots = pae.collect();
        self.ever |= !self.roots.is_empty();
    }

    /// A vCPU loaded it: with its PDPTEs, where they were read.
    pub(super) fn loaded(&mut self, row: &RootRow) {
        self.seen(row.root);
        if let (Some(tables), Some(pdptes)) = (self.roots.get_mut(&row.root.table()), pdptes(row)) {
            *tables = pdptes;
        }
    }

    /// A vCPU runs on it.
    pub(super) fn seen(&mut self, root: Hpa) {
        self.ever = true;
        if self.roots.len() < MAX_ROOTS {
            self.roots.entry(root.table()).or_default();
        }
    }

    /// Whether a vCPU has ever run on one.
    pub(super) fn were_seen(&self) -> bool {
        self.ever
    }

    /// Takes an entry whose table no record made, if it can only be a PDPTE.
    pub(super) fn take(&mut self, row: &EntryRow) -> bool {
        let root = row.sptep.table();
        let bare = !row.spte.is_shadow_present() && row.spte.0 & PRESENT != 0;
        if row.level != LEVEL || !(bare || self.roots.contains_key(&root)) {
            return false;
        }
        self.seen(root);
        let table = bare.then(|| row.spte.child());
        self.set(root, row.sptep.index(), table);
        true
    }

    /// A PDPTE points there, if the root is one of these.
    pub(super) fn set(&mut self, root: Hpa, index: u16, table: Option<Hpa>) {
        let tables = self.roots.get_mut(&root.table());
        if let Some(slot) = tables.and_then(|tables| tables.get_mut(usize::from(index))) {
            *slot = table;
        }
    }

    /// The page was given to something else.
    pub(super) fn forget(&mut self, root: Hpa) {
        self.roots.remove(&root);
    }

    /// One of them.
    pub(super) fn get(&self, root: Hpa) -> Option<&Pdptes> {
        self.roots.get(&root.table())
    }

    /// All, by address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Hpa, &Pdptes)> {
        self.roots.iter().map(|(root, tables)| (*root, tables))
    }
}
