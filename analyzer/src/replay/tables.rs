//! The shadow tables of one VM at one moment.

use events::{Gfn, Hpa, Level, Pfn, Seq, Spte};

use super::{
    AnomalyKind, PageInfo, ShadowPage,
    hash::{AddressMap, AddressSet},
    places::ReverseMap,
};

/// W and MMU-writable: what KVM clears to protect a guest page table (`spte_write_protect` with
/// `pt_protect`, arch/x86/kvm/mmu/mmu.c).
pub(super) const WRITE_BITS: u64 = 1 << 1 | 1 << 10;

/// `RMAP_RECYCLE_THRESHOLD`: with more mappings of one frame than this, `__rmap_add` zaps all of
/// them after the store, without a tracepoint.
pub(crate) const RMAP_RECYCLE_THRESHOLD: usize = 1000;
/// Live pages replayed at most: 4 GiB of tables, which map 2 TiB. Bounds a hostile trace.
const MAX_PAGES: usize = 1 << 20;
/// Highest level on x86.
pub const MAX_LEVEL: usize = 5;
/// Highest level whose entries can be leaves (`KVM_MAX_HUGEPAGE_LEVEL`).
pub(super) const LARGEST_LEAF: usize = 3;

/// A leaf's guest frame and the level of the table that holds it: KVM's `gfn_to_rmap(gfn, level)`.
type RmapKey = (Gfn, Level);

/// A part of the tables that the latest record changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// The page at this address is gone, with its entries.
    Gone(Hpa),
    /// The page at this address was made, or what is known of it changed.
    Page(Hpa),
    /// The entry at this address was stored.
    Entry(Hpa),
}

/// Changes of one record whose list is kept for the next: a keyframe may have a million.
const KEPT_TOUCHED: usize = 1 << 12;

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Shadow pages, `pages[level - 1]`; strange levels count as the highest.
    pub pages: [u64; MAX_LEVEL],
    /// Leaves and links in tables of each level, as `pages`.
    pub present: [u64; MAX_LEVEL],
    /// Leaf entries.
    pub leaves: u64,
    /// Leaf entries by the level of their table, `leaves_at[level - 1]`: of 4 KiB, 2 MiB and 1 GiB;
    /// strange levels count as the highest.
    pub leaves_at: [u64; LARGEST_LEAF],
    /// Entries that point to another table.
    pub links: u64,
    /// Pages that are unsync.
    pub unsync: u64,
    /// Pages that shadow a guest table (`arch.indirect_shadow_pages`).
    pub indirect: u64,
}

impl Totals {
    /// Pages of all levels.
    pub fn all_pages(&self) -> u64 {
        self.pages.iter().sum()
    }

    /// Leaves and links.
    pub fn entries(&self) -> u64 {
        self.leaves + self.links
    }

    fn add_leaf(&mut self, level: Level) {
        self.leaves += 1;
        *self.leaf(level) += 1;
    }

    fn remove_leaf(&mut self, level: Level) {
        self.leaves -= 1;
        *self.leaf(level) -= 1;
    }

    fn leaf(&mut self, level: Level) -> &mut u64 {
        let [one, two, three] = &mut self.leaves_at;
        match level.0 {
            0 | 1 => one,
            2 => two,
            _ => three,
        }
    }
}

/// The count of a level.
fn of(counts: &mut [u64; MAX_LEVEL], level: Level) -> &mut u64 {
    let [one, two, three, four, five] = counts;
    match level.0 {
        0 | 1 => one,
        2 => two,
        3 => three,
        4 => four,
        _ => five,
    }
}

/// A leaf that was dropped with all others of its frame, as it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recycled {
    pub(super) place: Hpa,
    pub(super) spte: Spte,
    pub(super) level: Level,
    pub(super) gfn: Gfn,
}

/// The tables, with the reverse maps that the rules of the shadow MMU need.
#[derive(Clone, Debug, Default)]
pub struct ShadowTables {
    pages: AddressMap<Hpa, ShadowPage>,
    /// Child table to the entries that point to it.
    parents: ReverseMap<Hpa>,
    /// Guest frame to the leaves that map it.
    rmap: ReverseMap<RmapKey>,
    /// Guest frame to the pages that shadow the table in it (`for_each_gfn_valid_sp_with_gptes`).
    shadows: ReverseMap<Gfn>,
    /// Leaves of unknown guest frame (from a keyframe), by host frame.
    strays: ReverseMap<Pfn>,
    /// Zapped pages whose address was not reused yet: changes that their zap makes are recorded
    /// after it.
    retired: AddressSet<Hpa>,
    totals: Totals,
    /// Leaves that the latest record dropped, since a frame had more than KVM keeps track of.
    recycled: Vec<Recycled>,
    /// See [`super::ReplayOptions::sees_every_change`].
    sees_every_change: bool,
    /// What the latest record changed, in order.
    touched: Vec<Touched>,
}

impl ShadowTables {
    /// Empty; see [`super::ReplayOptions::sees_every_change`].
    pub(crate) fn new(sees_every_change: bool) -> Self {
        Self {
            sees_every_change,
            ..Self::default()
        }
    }

    /// What the latest record changed, in order. A value may have changed again since: the tables
    /// have the last one.
    pub fn touched(&self) -> &[Touched] {
        &self.touched
    }

    /// The next record begins.
    pub(super) fn next_record(&mut self) {
        if !self.recycled.is_empty() {
            self.recycled = Vec::new();
        }
        match self.touched.capacity() > KEPT_TOUCHED {
            true => self.touched = Vec::new(),
            false => self.touched.clear(),
        }
    }

    /// The page at `spt`.
    pub fn page(&self, spt: Hpa) -> Option<&ShadowPage> {
        self.pages.get(&spt)
    }

    /// Every page, in no order.
    pub fn pages(&self) -> impl Iterator<Item = &ShadowPage> {
        self.pages.values()
    }

    /// Every page, by address.
    pub fn sorted_pages(&self) -> Vec<&ShadowPage> {
        let mut pages: Vec<_> = self.pages.values().collect();
        pages.sort_by_key(|page| page.info.spt);
        pages
    }

    /// The entries that point to the table `spt`.
    pub fn parents(&self, spt: Hpa) -> &[Hpa] {
        self.parents.get(spt)
    }

    /// How much there is.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// No page at all.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The pages that shadow the guest table in `gfn`.
    pub fn shadowing(&self, gfn: Gfn) -> &[Hpa] {
        self.shadows.get(gfn)
    }

    /// How many distinct guest tables are shadowed.
    pub fn guest_tables(&self) -> u64 {
        self.shadows.len() as u64
    }

    /// The leaves in tables of `level` that are known to map `gfn`, or the large page it lies in.
    pub(crate) fn leaves_of(&self, gfn: Gfn, level: Level) -> &[Hpa] {
        self.rmap.get((first_of(gfn, level), level))
    }

    /// The leaves that went with the latest record, where it gave a frame more of them than KVM keeps
    /// track of, that of the record included (`kvm_zap_all_rmap_sptes`). They have no record of their
    /// own.
    pub(super) fn recycled(&self) -> &[Recycled] {
        &self.recycled
    }

    /// Whether the latest record dropped any so.
    pub(crate) fn has_recycled(&self) -> bool {
        !self.recycled.is_empty()
    }

    /// Every leaf whose guest frame is known, with the frame and the level of its table.
    pub(crate) fn known_leaves(&self) -> impl Iterator<Item = (Gfn, Level, &[Hpa])> {
        self.rmap
            .iter()
            .map(|((gfn, level), places)| (gfn, level, places))
    }

    /// How many keys [`Self::known_leaves`] has.
    pub(crate) fn known_frames(&self) -> usize {
        self.rmap.len()
    }

    /// The entry at `place`, if its page is known.
    pub fn entry(&self, place: Hpa) -> Option<Spte> {
        Some(self.page(place.table())?.entry(place.index()))
    }

    /// A page is made, empty. Making an indirect one write-protects the guest table it shadows
    /// (`account_shadowed`).
    pub(crate) fn born(&mut self, info: PageInfo, seq: Seq) -> Option<AnomalyKind> {
        let twice = self.zap(info.spt);
        if let Some(anomaly) = self.adopt_page(info, seq) {
            return Some(anomaly);
        }
        if !info.direct {
            self.write_protect(info.gfn);
        }
        twice.then_some(AnomalyKind::BornTwice)
    }

    /// A page is known from now on, empty; what its making did is done already.
    pub(crate) fn adopt_page(&mut self, info: PageInfo, seq: Seq) -> Option<AnomalyKind> {
        if self.pages.len() >= MAX_PAGES {
            return Some(AnomalyKind::TooManyPages);
        }
        self.retired.remove(&info.spt);
        *of(&mut self.totals.pages, info.level) += 1;
        self.totals.unsync += u64::from(info.unsync);
        if !info.direct {
            self.totals.indirect += 1;
            self.shadows.add(info.gfn, info.spt);
        }
        let before = self.pages.insert(info.spt, ShadowPage::new(info, seq));
        self.touched.extend(before.map(|_| Touched::Gone(info.spt)));
        self.touched.push(Touched::Page(info.spt));
        None
    }

    /// Sets whether the page is unsync.
    pub(crate) fn set_unsync(&mut self, spt: Hpa, unsync: bool) -> Option<AnomalyKind> {
        let Some(page) = self.pages.get_mut(&spt) else {
            return Some(AnomalyKind::UnknownPage);
        };
        let before = std::mem::replace(&mut page.info.unsync, unsync);
        self.totals.unsync += u64::from(unsync);
        self.totals.unsync -= u64::from(before);
        self.touched.push(Touched::Page(spt));
        None
    }

    /// Replaces what is known of a page without touching its entries.
    pub(crate) fn set_info(&mut self, info: PageInfo) {
        self.set_unsync(info.spt, info.unsync);
        let Some(page) = self.pages.get_mut(&info.spt) else {
            return;
        };
        // These decide how entries are counted and mapped back: the entries go first.
        let mapped_by = |of: &PageInfo| (of.level, of.direct, of.direct.then_some(of.gfn));
        if mapped_by(&page.info) == mapped_by(&info) {
            let before = std::mem::replace(&mut page.info, info);
            if !info.direct {
                self.shadows.remove(before.gfn, info.spt);
                self.shadows.add(info.gfn, info.spt);
            }
            return;
        }
        let since = page.since;
        let own = page
            .entries()
            .map(|(index, spte)| (page.place(index), spte, page.leaf_gfn(index)));
        let mut entries: Vec<_> = own.collect();
        let parents = self.parents(info.spt).iter();
        let links = parents.filter_map(|place| Some((*place, self.entry(*place)?, None)));
        entries.extend(links.collect::<Vec<_>>());
        self.zap(info.spt);
        self.adopt_page(info, since);
        for (place, spte, gfn) in entries {
            self.store(place, spte, gfn);
        }
    }

    /// A page goes: its own entries, and every entry that points to it. Its children stay
    /// (`__kvm_mmu_prepare_zap_page`). False if it was not known.
    pub(crate) fn zap(&mut self, spt: Hpa) -> bool {
        let Some(page) = self.pages.remove(&spt) else {
            return false;
        };
        self.touched.push(Touched::Gone(spt));
        *of(&mut self.totals.pages, page.info.level) -= 1;
        self.totals.unsync -= u64::from(page.info.unsync);
        if !page.info.direct {
            self.totals.indirect -= 1;
            self.shadows.remove(page.info.gfn, spt);
        }
        for (index, spte) in page.entries() {
            self.detach(
                page.place(index),
                spte,
                page.info.level,
                page.leaf_gfn(index),
            );
        }
        // Nothing of it is left, so a place in it that pointed to itself is gone too.
        for place in self.parents.take(spt) {
            self.clear(place);
        }
        self.retired.insert(spt);
        true
    }

    /// Whether the page was zapped and its address not given out since.
    pub(crate) fn is_retired(&self, spt: Hpa) -> bool {
        self.retired.contains(&spt)
    }

    /// An entry is stored; `gfn` is the frame that a leaf maps, where the record has it. A leaf
    /// that only changes its rights keeps the frame that is known.
    pub(crate) fn store(
        &mut self,
        place: Hpa,
        spte: Spte,
        gfn: Option<Gfn>,
    ) -> Option<AnomalyKind> {
        let Some(page) = self.pages.get_mut(&place.table()) else {
            return Some(match self.is_retired(place.table()) {
                true => AnomalyKind::EntryInZappedPage,
                false => AnomalyKind::EntryInUnknownPage,
            });
        };
        let level = page.info.level;
        let index = place.index();
        let gfn = gfn
            .filter(|_| spte.is_leaf(level))
            .map(|gfn| first_of(gfn, level));
        let old_gfn = page.leaf_gfn(index);
        let before = page.entry(index);
        let same_frame = spte.is_leaf(level) && before.is_leaf(level) && before.pfn() == spte.pfn();
        let gfn = gfn.or(old_gfn.filter(|_| same_frame));
        let old = page.put(index, spte, gfn);
        let gfn = page.leaf_gfn(index);
        // Empty has two values: see `Spte::is_empty`.
        let same = old == spte || old.is_empty() && spte.is_empty();
        if same && old_gfn == gfn {
            return None;
        }
        self.touched.push(Touched::Entry(place));
        // A leaf that stays one of its frame, as one whose rights change: it is mapped back and
        // counted already.
        if old.is_leaf(level) && spte.is_leaf(level) && gfn.is_some() && old_gfn == gfn {
            return None;
        }
        self.detach(place, old, level, old_gfn);
        self.attach(place, spte, level, gfn)
    }

    /// Takes write access from every leaf that maps `gfn`, large ones that cover it included.
    pub(crate) fn write_protect(&mut self, gfn: Gfn) {
        for level in 1..=3 {
            let level = Level(level);
            let key = (first_of(gfn, level), level);
            for place in self.rmap.get(key) {
                let Some(page) = self.pages.get_mut(&place.table()) else {
                    continue;
                };
                let index = place.index();
                let spte = page.entry(index);
                page.put(index, spte.without_write(), page.leaf_gfn(index));
                if spte.without_write() != spte {
                    self.touched.push(Touched::Entry(*place));
                }
            }
        }
    }

    /// Whether the guest frame of every leaf is known.
    pub(crate) fn knows_every_gfn(&self) -> bool {
        self.strays.is_empty()
    }

    /// Gives leaves of unknown guest frame the frame that other leaves of the same host frame have.
    pub(crate) fn resolve_strays(&mut self) {
        if self.strays.is_empty() {
            return;
        }
        let mut found = Vec::new();
        for page in self.pages.values() {
            for (index, spte) in page.entries() {
                if !spte.is_leaf(page.info.level) {
                    continue;
                }
                if let Some(gfn) = page.leaf_gfn(index)
                    && !self.strays.get(spte.pfn()).is_empty()
                {
                    found.push((spte.pfn(), gfn));
                }
            }
        }
        // In order, as the pages are not: the first frame of each is taken.
        found.sort_unstable();
        for (pfn, gfn) in found {
            self.adopt(pfn, gfn);
        }
    }

    /// A record shows which guest frame a host frame backs: stray leaves of it get their gfn.
    pub(crate) fn adopt(&mut self, pfn: Pfn, gfn: Gfn) {
        if self.strays.is_empty() {
            return;
        }
        for place in self.strays.take(pfn) {
            if let Some(spte) = self.entry(place) {
                self.store(place, spte, Some(gfn));
            }
        }
    }

    fn clear(&mut self, place: Hpa) {
        let Some(page) = self.pages.get_mut(&place.table()) else {
            return;
        };
        let level = page.info.level;
        let old = page.put(place.index(), Spte(0), None);
        self.touched.push(Touched::Entry(place));
        *of(&mut self.totals.present, level) -= u64::from(old.is_shadow_present());
        if old.is_leaf(level) {
            self.totals.remove_leaf(level);
        } else if old.is_shadow_present() {
            self.totals.links -= 1;
        }
    }

    fn detach(&mut self, place: Hpa, old: Spte, level: Level, gfn: Option<Gfn>) {
        *of(&mut self.totals.present, level) -= u64::from(old.is_shadow_present());
        if old.is_leaf(level) {
            self.totals.remove_leaf(level);
            match gfn {
                Some(gfn) => self.rmap.remove((gfn, level), place),
                None => self.strays.remove(old.pfn(), place),
            }
        } else if old.is_shadow_present() {
            self.totals.links -= 1;
            self.parents.remove(old.child(), place);
        }
    }

    fn attach(
        &mut self,
        place: Hpa,
        spte: Spte,
        level: Level,
        gfn: Option<Gfn>,
    ) -> Option<AnomalyKind> {
        *of(&mut self.totals.present, level) += u64::from(spte.is_shadow_present());
        if spte.is_leaf(level) {
            self.totals.add_leaf(level);
            let Some(gfn) = gfn else {
                self.strays.add(spte.pfn(), place);
                return None;
            };
            let before = self.rmap.add((gfn, level), place);
            if before > RMAP_RECYCLE_THRESHOLD && !self.sees_every_change {
                let dropped = self.rmap.take((gfn, level));
                let dropped = dropped.into_iter().map(|place| Recycled {
                    place,
                    spte: self.entry(place).unwrap_or_default(),
                    level,
                    gfn,
                });
                let dropped: Vec<_> = dropped.collect();
                for leaf in &dropped {
                    self.clear(leaf.place);
                }
                self.recycled = dropped;
            }
            return None;
        }
        if spte.is_shadow_present() {
            self.totals.links += 1;
            self.parents.add(spte.child(), place);
            return match self.pages.get(&spte.child()) {
                None if self.is_retired(spte.child()) => Some(AnomalyKind::LinkToZappedTable),
                None => Some(AnomalyKind::LinkToUnknownTable),
                Some(child) if child.info.level >= level => Some(AnomalyKind::LinkNotDownwards),
                Some(_) => None,
            };
        }
        None
    }
}

/// The first frame of the page that an entry at `level` maps, of which `gfn` is one.
pub(super) fn first_of(gfn: Gfn, level: Level) -> Gfn {
    Gfn(gfn.0 & !(level.pages() - 1))
}
