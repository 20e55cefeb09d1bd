//! One shadow page.

use events::{ENTRIES_PER_TABLE, Gfn, Hpa, Level, Role, Seq, Spte};
use trace::PageRow;

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

impl PageInfo {
    /// As a record of it says.
    pub(crate) fn of(row: &PageRow) -> Self {
        Self {
            spt: row.spt,
            gfn: row.gfn,
            role: row.role,
            level: row.level,
            direct: row.direct != 0,
            unsync: row.unsync != 0,
        }
    }
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
    entries: Entries,
}

/// A leaf whose guest frame no record has named yet.
const UNKNOWN_GFN: u64 = u64::MAX;
/// Entries up to which a page keeps only those that are not zero: a trace of many pages with one
/// entry each takes as much memory as it has records.
const FEW: usize = 32;

/// The entries of a page.
#[derive(Clone, Debug)]
enum Entries {
    /// Those that are not zero, by index.
    Few(Vec<Entry>),
    /// All of them.
    All {
        sptes: Box<[Spte; ENTRIES_PER_TABLE]>,
        /// Guest frames of the leaves of an indirect page, as KVM's `shadowed_translation`.
        gfns: Option<Box<[u64; ENTRIES_PER_TABLE]>>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    index: u16,
    spte: Spte,
    gfn: u64,
}

impl Entries {
    fn get(&self, index: u16) -> Spte {
        match self {
            Self::Few(few) => find(few, index)
                .ok()
                .and_then(|at| few.get(at))
                .map(|of| of.spte),
            Self::All { sptes, .. } => sptes.get(usize::from(index)).copied(),
        }
        .unwrap_or_default()
    }

    fn gfn(&self, index: u16) -> Option<Gfn> {
        let gfn = match self {
            Self::Few(few) => few.get(find(few, index).ok()?)?.gfn,
            Self::All { gfns, .. } => *gfns.as_deref()?.get(usize::from(index))?,
        };
        (gfn != UNKNOWN_GFN).then_some(Gfn(gfn))
    }

    /// Stores an entry, gives the one before. `gfn` is [`UNKNOWN_GFN`] where none is kept.
    fn put(&mut self, index: u16, spte: Spte, gfn: u64) -> Spte {
        if let Self::Few(few) = self {
            match find(few, index) {
                Ok(at) if spte.0 == 0 => return few.remove(at).spte,
                Ok(at) => {
                    let new = Entry { index, spte, gfn };
                    let old = few.get_mut(at).map(|of| std::mem::replace(of, new));
                    return old.map(|of| of.spte).unwrap_or_default();
                }
                Err(_) if spte.0 == 0 => return Spte(0),
                Err(at) if few.len() < FEW => {
                    few.insert(at, Entry { index, spte, gfn });
                    return Spte(0);
                }
                Err(_) => self.spread(),
            }
        }
        let Self::All { sptes, gfns } = self else {
            return Spte(0);
        };
        let Some(slot) = sptes.get_mut(usize::from(index)) else {
            return Spte(0);
        };
        let old = std::mem::replace(slot, spte);
        if gfns.is_some() || gfn != UNKNOWN_GFN {
            let gfns = gfns.get_or_insert_with(|| Box::new([UNKNOWN_GFN; ENTRIES_PER_TABLE]));
            if let Some(slot) = gfns.get_mut(usize::from(index)) {
                *slot = gfn;
            }
        }
        old
    }

    /// From few to all.
    fn spread(&mut self) {
        let all = Self::All {
            sptes: Box::new([Spte(0); ENTRIES_PER_TABLE]),
            gfns: None,
        };
        if let Self::Few(few) = std::mem::replace(self, all) {
            for of in few {
                self.put(of.index, of.spte, of.gfn);
            }
        }
    }
}

/// The place of an index. Tables are often filled in order.
fn find(few: &[Entry], index: u16) -> Result<usize, usize> {
    match few.last() {
        Some(last) if last.index < index => Err(few.len()),
        _ => few.binary_search_by_key(&index, |of| of.index),
    }
}

impl ShadowPage {
    /// An empty page.
    pub(crate) fn new(info: PageInfo, since: Seq) -> Self {
        Self {
            info,
            since,
            present: 0,
            entries: Entries::Few(Vec::new()),
        }
    }

    /// The entry at `index`; empty past the end.
    pub fn entry(&self, index: u16) -> Spte {
        self.entries.get(index)
    }

    /// Number of shadow-present entries.
    pub fn present(&self) -> u32 {
        self.present
    }

    /// Every entry that was ever stored and is not zero, by index.
    pub fn entries(&self) -> impl Iterator<Item = (u16, Spte)> {
        let (few, all) = match &self.entries {
            Entries::Few(few) => (&few[..], &[][..]),
            Entries::All { sptes, .. } => (&[][..], &sptes[..]),
        };
        let all = (0_u16..).zip(all.iter().copied());
        let few = few.iter().map(|of| (of.index, of.spte));
        few.chain(all).filter(|(_, spte)| spte.0 != 0)
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
        self.entries.gfn(index)
    }

    /// Stores an entry, gives the one before.
    pub(crate) fn put(&mut self, index: u16, spte: Spte, gfn: Option<Gfn>) -> Spte {
        if usize::from(index) >= ENTRIES_PER_TABLE {
            return Spte(0);
        }
        let gfn = match (self.info.direct, gfn) {
            (false, Some(gfn)) => gfn.0,
            _ => UNKNOWN_GFN,
        };
        let old = self.entries.put(index, spte, gfn);
        self.present += u32::from(spte.is_shadow_present());
        self.present -= u32::from(old.is_shadow_present());
        old
    }
}
