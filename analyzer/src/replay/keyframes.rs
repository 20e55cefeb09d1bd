//! Drift: replayed tables set against the kernel's own.
//!
//! Each page is compared when its copy arrives, because its place in the order of all records is
//! the moment of the copy. What differs is held until the keyframe's mark: only a keyframe whose
//! pages all arrived counts, and only then is the replayed state mended with it. Where nothing was
//! known before, there is nothing to compare: each page is taken over as it arrives, so that what
//! its VM does before the mark finds it.

use events::{ENTRIES_PER_TABLE, Gfn, Hpa, Level, Seq, Spte, TimeNs};
use trace::KeyframePage;

use super::{PageInfo, ShadowTables, hash::AddressSet};

/// In what a replayed entry and the kernel's differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DifferenceKind {
    /// The kernel has an entry, replay has none.
    MissingEntry,
    /// Replay has an entry, the kernel has none.
    ExtraEntry,
    /// Both have one, for another frame or another child.
    OtherFrame,
    /// The same frame, other permission bits.
    OtherPermission,
    /// Only the bits that hardware sets by itself; not drift.
    AccessedDirty,
    /// The kernel has a page, replay has none.
    MissingPage,
    /// Replay has a page, the kernel has none.
    ExtraPage,
    /// The same page with another gfn, role, level or unsync.
    OtherPage,
}

impl DifferenceKind {
    /// Its name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingEntry => "missing_entry",
            Self::ExtraEntry => "extra_entry",
            Self::OtherFrame => "other_frame",
            Self::OtherPermission => "other_permission",
            Self::AccessedDirty => "accessed_dirty",
            Self::MissingPage => "missing_page",
            Self::ExtraPage => "extra_page",
            Self::OtherPage => "other_page",
        }
    }
}

/// Counts of differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Entries that the kernel has and replay has not.
    pub missing_entries: u64,
    /// Entries that replay has and the kernel has not.
    pub extra_entries: u64,
    /// Entries with another frame or child.
    pub other_frame: u64,
    /// Entries with other permission bits.
    pub other_permission: u64,
    /// Entries that differ only in A and D: hardware sets them without a trace. Not drift.
    pub accessed_dirty: u64,
    /// Pages that the kernel has and replay has not.
    pub missing_pages: u64,
    /// Pages that replay has and the kernel has not.
    pub extra_pages: u64,
    /// Pages with another gfn, role, level or unsync.
    pub other_page: u64,
}

impl Drift {
    /// Entries that drifted.
    pub fn entries(&self) -> u64 {
        self.missing_entries + self.extra_entries + self.other_frame + self.other_permission
    }

    /// Pages that drifted.
    pub fn pages(&self) -> u64 {
        self.missing_pages + self.extra_pages + self.other_page
    }

    /// No drift.
    pub fn is_exact(&self) -> bool {
        self.entries() == 0 && self.pages() == 0
    }

    /// Adds the counts of another keyframe.
    pub fn add(&mut self, other: &Drift) {
        self.missing_entries += other.missing_entries;
        self.extra_entries += other.extra_entries;
        self.other_frame += other.other_frame;
        self.other_permission += other.other_permission;
        self.accessed_dirty += other.accessed_dirty;
        self.missing_pages += other.missing_pages;
        self.extra_pages += other.extra_pages;
        self.other_page += other.other_page;
    }

    fn count(&mut self, kind: DifferenceKind) {
        *match kind {
            DifferenceKind::MissingEntry => &mut self.missing_entries,
            DifferenceKind::ExtraEntry => &mut self.extra_entries,
            DifferenceKind::OtherFrame => &mut self.other_frame,
            DifferenceKind::OtherPermission => &mut self.other_permission,
            DifferenceKind::AccessedDirty => &mut self.accessed_dirty,
            DifferenceKind::MissingPage => &mut self.missing_pages,
            DifferenceKind::ExtraPage => &mut self.extra_pages,
            DifferenceKind::OtherPage => &mut self.other_page,
        } += 1;
    }
}

/// One difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub kind: DifferenceKind,
    /// The entry, or the page.
    pub place: Hpa,
    /// Level of the table.
    pub level: Level,
    /// Replay's entry.
    pub replayed: Spte,
    /// The kernel's entry.
    pub kernel: Spte,
}

/// What became of a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyframeUse {
    /// It set the state: nothing was known before.
    Set,
    /// The replayed state was compared with it.
    Verified,
    /// Fewer pages arrived than it holds: not used.
    Incomplete,
}

/// A keyframe and what it showed.
#[derive(Clone, Debug)]
pub struct KeyframeCheck {
    /// Its number.
    pub number: u32,
    /// Of its mark.
    pub seq: Seq,
    /// Of its mark.
    pub time: TimeNs,
    /// Pages that arrived.
    pub pages: u64,
    /// Pages that the collector copied.
    pub announced: u64,
    /// Shadow-present entries that arrived.
    pub entries: u64,
    /// Entries that are neither empty nor shadow-present: MMIO markers, and the copies of host
    /// entries in a PVM root. No SPTEs, so not compared.
    pub foreign: u64,
    /// What became of it.
    pub used: KeyframeUse,
    /// The differences, by kind; zero unless verified.
    pub drift: Drift,
    /// The first ones that are drift.
    pub first: Vec<Difference>,
    /// The mark of the keyframe before: the tables were right then.
    pub after: Option<Seq>,
}

/// How many differences of a keyframe are kept in full.
const KEPT: usize = 10;

/// Something to mend once the keyframe is known to be whole.
#[derive(Debug, Clone)]
enum Fix {
    Entry {
        place: Hpa,
        replayed: Spte,
        kernel: Spte,
        gfn: Option<Gfn>,
    },
    Page(Box<KeyframePage>, PageInfo),
    Info(PageInfo),
}

/// A keyframe whose pages arrive.
#[derive(Clone, Debug)]
pub(crate) struct Arriving {
    number: u32,
    /// Of the first page.
    begun: Seq,
    /// The state before was meant to be whole.
    trusted: bool,
    seen: AddressSet<Hpa>,
    entries: u64,
    foreign: u64,
    drift: Drift,
    first: Vec<Difference>,
    fixes: Vec<Fix>,
}

impl Arriving {
    pub(crate) fn new(number: u32, begun: Seq, trusted: bool) -> Self {
        Self {
            number,
            begun,
            trusted,
            seen: AddressSet::default(),
            entries: 0,
            foreign: 0,
            drift: Drift::default(),
            first: Vec::new(),
            fixes: Vec::new(),
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    fn differ(&mut self, difference: Difference) {
        self.drift.count(difference.kind);
        if difference.kind != DifferenceKind::AccessedDirty && self.first.len() < KEPT {
            self.first.push(difference);
        }
    }

    /// Compares one page with the tables as they are now, or takes it over.
    pub(crate) fn page(&mut self, copy: &KeyframePage, tables: &mut ShadowTables) {
        if !self.seen.insert(copy.spt) {
            return;
        }
        for (_, spte) in &copy.entries {
            self.entries += u64::from(spte.is_shadow_present());
            self.foreign += u64::from(!spte.is_shadow_present() && !spte.is_empty());
        }
        let info = PageInfo {
            spt: copy.spt,
            gfn: copy.gfn,
            role: copy.role,
            level: copy.level,
            direct: copy.direct,
            unsync: copy.unsync,
        };
        if !self.trusted {
            take_over(info, copy, tables);
            return;
        }
        let Some(page) = tables.page(copy.spt) else {
            self.missing_page(info, copy);
            return;
        };
        if page.info != info {
            let place = copy.spt;
            let (replayed, kernel) = (Spte(0), Spte(0));
            self.differ(Difference {
                kind: DifferenceKind::OtherPage,
                place,
                level: copy.level,
                replayed,
                kernel,
            });
            self.fixes.push(Fix::Info(info));
        }
        for (index, kernel, gfn) in whole_table(copy) {
            let replayed = page.entry(index);
            let place = page.place(index);
            // The kernel's own reverse map: it stands even where the entry agrees.
            if replayed != kernel || gfn.is_some_and(|gfn| page.leaf_gfn(index) != Some(gfn)) {
                self.fixes.push(Fix::Entry {
                    place,
                    replayed,
                    kernel,
                    gfn,
                });
            }
            if let Some(kind) = compare(replayed, kernel) {
                self.differ(Difference {
                    kind,
                    place,
                    level: copy.level,
                    replayed,
                    kernel,
                });
            }
        }
    }

    fn missing_page(&mut self, info: PageInfo, copy: &KeyframePage) {
        let (place, level) = (info.spt, info.level);
        let (replayed, kernel) = (Spte(0), Spte(0));
        self.differ(Difference {
            kind: DifferenceKind::MissingPage,
            place,
            level,
            replayed,
            kernel,
        });
        let present = copy
            .entries
            .iter()
            .filter(|(_, spte)| spte.is_shadow_present())
            .count();
        self.drift.missing_entries += present as u64;
        self.fixes.push(Fix::Page(Box::new(copy.clone()), info));
    }

    /// The mark has come: what the keyframe showed. Mends `tables` unless it is incomplete.
    pub(crate) fn close(mut self, mark: Mark, tables: &mut ShadowTables) -> KeyframeCheck {
        let pages = self.seen.len() as u64;
        let used = if pages < mark.announced {
            KeyframeUse::Incomplete
        } else if self.trusted {
            KeyframeUse::Verified
        } else {
            KeyframeUse::Set
        };
        if used != KeyframeUse::Incomplete {
            self.extra_pages(tables);
            mend(std::mem::take(&mut self.fixes), tables);
        }
        let counts = used == KeyframeUse::Verified;
        KeyframeCheck {
            number: self.number,
            seq: mark.seq,
            time: mark.time,
            pages,
            announced: mark.announced,
            entries: self.entries,
            foreign: self.foreign,
            used,
            drift: if counts { self.drift } else { Drift::default() },
            first: if counts { self.first } else { Vec::new() },
            after: mark.after,
        }
    }

    fn extra_pages(&mut self, tables: &mut ShadowTables) {
        let mut extra: Vec<(Hpa, Level, u32)> = tables
            .pages()
            .filter(|page| page.since < self.begun && !self.seen.contains(&page.info.spt))
            .map(|page| (page.info.spt, page.info.level, page.present()))
            .collect();
        extra.sort_by_key(|(spt, ..)| *spt);
        for (place, level, present) in extra {
            let (replayed, kernel) = (Spte(0), Spte(0));
            self.differ(Difference {
                kind: DifferenceKind::ExtraPage,
                place,
                level,
                replayed,
                kernel,
            });
            self.drift.extra_entries += u64::from(present);
            tables.zap(place);
        }
    }
}

/// The mark that ends a keyframe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) seq: Seq,
    pub(crate) time: TimeNs,
    pub(crate) announced: u64,
    pub(crate) after: Option<Seq>,
}

/// Only shadow-present entries are SPTEs.
pub(crate) fn compare(replayed: Spte, kernel: Spte) -> Option<DifferenceKind> {
    match (replayed.is_shadow_present(), kernel.is_shadow_present()) {
        (false, false) => None,
        (false, true) => Some(DifferenceKind::MissingEntry),
        (true, false) => Some(DifferenceKind::ExtraEntry),
        (true, true) if replayed == kernel => None,
        (true, true) if replayed.pfn() != kernel.pfn() => Some(DifferenceKind::OtherFrame),
        (true, true) if replayed.without_accessed_dirty() == kernel.without_accessed_dirty() => {
            Some(DifferenceKind::AccessedDirty)
        }
        (true, true) => Some(DifferenceKind::OtherPermission),
    }
}

/// All 512 entries of a copy, which has only those that are not empty, with the guest frames that
/// it tells.
fn whole_table(copy: &KeyframePage) -> impl Iterator<Item = (u16, Spte, Option<Gfn>)> {
    let mut entries = [(Spte(0), None); ENTRIES_PER_TABLE];
    for (index, spte) in &copy.entries {
        if let Some((slot, _)) = entries.get_mut(usize::from(*index)) {
            *slot = *spte;
        }
    }
    for (index, gfn) in &copy.gfns {
        if let Some((_, slot)) = entries.get_mut(usize::from(*index)) {
            *slot = Some(*gfn);
        }
    }
    (0_u16..)
        .zip(entries)
        .map(|(index, (spte, gfn))| (index, spte, gfn))
}

/// Where an entry of a page stands.
fn place(info: PageInfo, index: u16) -> Hpa {
    Hpa(info.spt.0.wrapping_add(u64::from(index) * 8))
}

/// The page is as its copy says, whatever was known of it.
fn take_over(info: PageInfo, copy: &KeyframePage, tables: &mut ShadowTables) {
    if tables.page(info.spt).is_some() {
        tables.set_info(info);
    } else if tables.adopt_page(info, copy.seq).is_some() {
        return;
    }
    for (index, spte, gfn) in whole_table(copy) {
        let place = place(info, index);
        if gfn.is_some() || tables.entry(place) != Some(spte) {
            tables.store(place, spte, gfn);
        }
    }
}

/// Pages first, then their entries: a link must find its child.
fn mend(fixes: Vec<Fix>, tables: &mut ShadowTables) {
    let mut stores = Vec::new();
    for fix in fixes {
        match fix {
            Fix::Page(copy, info) => {
                // Born since its copy came: then the records know better.
                if tables.page(info.spt).is_some() || tables.adopt_page(info, copy.seq).is_some() {
                    continue;
                }
                let entries = whole_table(&copy).filter(|(_, spte, _)| spte.0 != 0);
                stores.extend(entries.map(|(index, spte, gfn)| (place(info, index), spte, gfn)));
            }
            Fix::Info(info) => tables.set_info(info),
            Fix::Entry {
                place,
                replayed,
                kernel,
                gfn,
            } => {
                if tables.entry(place) == Some(replayed) {
                    stores.push((place, kernel, gfn));
                }
            }
        }
    }
    for (place, spte, gfn) in stores {
        tables.store(place, spte, gfn);
    }
    tables.resolve_strays();
}
