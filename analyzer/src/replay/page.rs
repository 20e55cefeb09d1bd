//! One shadow page.

use events::{ENTRIES_PER_TABLE, Gfn, Hpa, Level, Role, Seq, Spte};

/// What identifies a shadow page (`struct kvm_mmu_page`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PageInfo {
    /// The page of 512 entries (`sp->spt`).
    pub spt: Hpa,
    /// The guest table it shadows; for a direct page, the first frame it maps.
    pub gfn: Gfn,
    /// Raw role word.
    pub role: Role,
    /// Level of the table.
    pub level: Level,
    /// Maps a range of frames, and shadows no guest table.
    pub direct: bool,
    /// The guest may write the leaf table it shadows.
    pub unsync: bool,
}

/// A shadow page with its entries.
#[derive(Clone, Debug)]
pub struct ShadowPage {
    /// What it is.
    pub info: PageInfo,
    /// The record that made it known.
    pub since: Seq,
    /// Shadow-present entries.
    present: u32,
    /// Absent until the first entry is stored.
    entries: Option<Box<[Spte; ENTRIES_PER_TABLE]>>,
    /// Guest frames of the leaves of an indirect page, as KVM's `shadowed_translation`.
    gfns: Option<Box<[u64; ENTRIES_PER_TABLE]>>,
}

/// A leaf whose guest frame no record has named yet.
const UNKNOWN_GFN: u64 = u64::MAX;

impl ShadowPage {
    /// An empty page.
    pub(crate) fn new(info: PageInfo, since: Seq) -> Self {
        Self {
            info,
            since,
            present: 0,
            entries: None,
            gfns: None,
        }
    }

    /// The entry at `index`; empty past the end.
    pub fn entry(&self, index: u16) -> Spte {
        let entries = self.entries.as_deref();
        entries
            .and_then(|entries| entries.get(usize::from(index)))
            .copied()
            .unwrap_or_default()
    }

    /// Number of shadow-present entries.
    pub fn present(&self) -> u32 {
        self.present
    }

    /// Every entry that was ever stored and is not zero, by index.
    pub fn entries(&self) -> impl Iterator<Item = (u16, Spte)> {
        let entries = self.entries.iter().flat_map(|entries| entries.iter());
        (0_u16..)
            .zip(entries.copied())
            .filter(|(_, spte)| spte.0 != 0)
    }

    /// Address of the entry at `index`.
    pub fn place(&self, index: u16) -> Hpa {
        Hpa(self.info.spt.0.wrapping_add(u64::from(index) * 8))
    }

    /// The guest frame that the leaf at `index` maps, where it is known.
    pub fn leaf_gfn(&self, index: u16) -> Option<Gfn> {
        if self.info.direct {
            let offset = u64::from(index).wrapping_mul(self.info.level.pages());
            return Some(Gfn(self.info.gfn.0.wrapping_add(offset)));
        }
        let gfn = self.gfns.as_deref()?.get(usize::from(index)).copied()?;
        (gfn != UNKNOWN_GFN).then_some(Gfn(gfn))
    }

    /// Stores an entry, gives the one before.
    pub(crate) fn put(&mut self, index: u16, spte: Spte, gfn: Option<Gfn>) -> Spte {
        if self.entries.is_none() && spte.0 == 0 {
            return Spte(0);
        }
        let entries = self
            .entries
            .get_or_insert_with(|| Box::new([Spte(0); ENTRIES_PER_TABLE]));
        let Some(slot) = entries.get_mut(usize::from(index)) else {
            return Spte(0);
        };
        let old = std::mem::replace(slot, spte);
        self.present += u32::from(spte.is_shadow_present());
        self.present -= u32::from(old.is_shadow_present());
        if !self.info.direct && (self.gfns.is_some() || gfn.is_some()) {
            let gfns = self
                .gfns
                .get_or_insert_with(|| Box::new([UNKNOWN_GFN; ENTRIES_PER_TABLE]));
            if let Some(slot) = gfns.get_mut(usize::from(index)) {
                *slot = gfn.map_or(UNKNOWN_GFN, |gfn| gfn.0);
            }
        }
        old
    }
}
