//! Replayed tables set against the kernel's own.
//!
//! Each page is compared when its copy arrives, because its place in the order of all records is
//! the moment of the copy. What differs is held until the keyframe's mark: only a keyframe whose
//! pages all arrived counts, and only then is the replayed state mended with it. Where nothing was
//! known before, there is nothing to compare: each page is taken over as it arrives, so that what
//! its VM does before the mark finds it.

use events::{ENTRIES_PER_TABLE, Gfn, Hpa, Level, Seq, Spte, TimeNs};
use trace::{KeyframePage, RootRow};

use super::{
    Difference, DifferenceKind, Drift, LateKind, PageInfo, ShadowPage, ShadowTables,
    drift::compare, hash::AddressSet,
};

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
    /// How long the VM had been stopped for it, ns; of a VM that did not run, `None`.
    pub stopped_ns: Option<u64>,
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
    /// The first ones that are seen late.
    pub late: Vec<Difference>,
    /// The mark of the keyframe before: the tables were right then.
    pub after: Option<SeqTime>,
}

/// A record's place in the order of all, and its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeqTime {
    /// Its number.
    pub seq: Seq,
    /// Its time.
    pub time: TimeNs,
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
    /// The state before should be complete.
    trusted: bool,
    /// Every change has its record: nothing can be seen late.
    sees_every_change: bool,
    seen: AddressSet<Hpa>,
    entries: u64,
    foreign: u64,
    drift: Drift,
    first: Vec<Difference>,
    late: Vec<Difference>,
    fixes: Vec<Fix>,
    roots: Vec<RootRow>,
}

/// Roots of a keyframe that are kept: KVM has at most 4096 vCPUs. Bounds a hostile trace.
const MAX_ROOTS: usize = 4096;

impl Arriving {
    pub(crate) fn new(number: u32, begun: Seq, trusted: bool, sees_every_change: bool) -> Self {
        Self {
            number,
            begun,
            trusted,
            sees_every_change,
            seen: AddressSet::default(),
            entries: 0,
            foreign: 0,
            drift: Drift::default(),
            first: Vec::new(),
            late: Vec::new(),
            fixes: Vec::new(),
            roots: Vec::new(),
        }
    }

    /// The root of a vCPU.
    pub(crate) fn root(&mut self, row: &RootRow) {
        if self.roots.len() < MAX_ROOTS {
            self.roots.push(row.clone());
        }
    }

    /// The roots that have arrived.
    pub(crate) fn take_roots(&mut self) -> Vec<RootRow> {
        std::mem::take(&mut self.roots)
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    fn differ(&mut self, difference: Difference) {
        self.drift.count(&difference);
        let list = match (difference.kind, difference.late) {
            (DifferenceKind::AccessedDirty, _) => return,
            (_, Some(_)) => &mut self.late,
            (_, None) => &mut self.first,
        };
        if list.len() < KEPT {
            list.push(difference);
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
            let kind = match page.info.level == info.level {
                true => DifferenceKind::OtherPage,
                false => DifferenceKind::OtherLevel,
            };
            self.differ(Difference::of_page(kind, copy.spt, copy.level));
            self.fixes.push(Fix::Info(info));
        }
        for (index, kernel, gfn) in whole_table(copy) {
            self.entry(page, index, kernel, gfn);
        }
    }

    fn entry(&mut self, page: &ShadowPage, index: u16, kernel: Spte, gfn: Option<Gfn>) {
        let (level, place) = (page.info.level, page.place(index));
        let replayed = page.entry(index);
        // The kernel's own reverse map: it is right even where the entry agrees.
        if replayed != kernel || gfn.is_some_and(|gfn| page.leaf_gfn(index) != Some(gfn)) {
            self.fixes.push(Fix::Entry {
                place,
                replayed,
                kernel,
                gfn,
            });
        }
        let Some(kind) = compare(replayed, kernel) else {
            return;
        };
        let silent = matches!(
            kind,
            DifferenceKind::ExtraEntry | DifferenceKind::OtherPermission
        ) && !self.sees_every_change;
        let gfn_known = page.leaf_gfn(index).is_some();
        let late = silent.then(|| LateKind::of(level, replayed, kernel, gfn_known));
        self.differ(Difference {
            kind,
            late: late.flatten(),
            place,
            level,
            replayed,
            kernel,
        });
    }

    fn missing_page(&mut self, info: PageInfo, copy: &KeyframePage) {
        let kind = DifferenceKind::MissingPage;
        self.differ(Difference::of_page(kind, info.spt, info.level));
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
            // An entry that pointed to a page that is gone may point elsewhere by now: that first.
            mend(std::mem::take(&mut self.fixes), tables);
            self.extra_pages(tables);
        }
        let counts = used == KeyframeUse::Verified;
        KeyframeCheck {
            number: self.number,
            seq: mark.seq,
            time: mark.time,
            pages,
            announced: mark.announced,
            stopped_ns: mark.stopped_ns,
            entries: self.entries,
            foreign: self.foreign,
            used,
            drift: if counts { self.drift } else { Drift::default() },
            first: if counts { self.first } else { Vec::new() },
            late: if counts { self.late } else { Vec::new() },
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
            let kind = DifferenceKind::ExtraPage;
            self.differ(Difference::of_page(kind, place, level));
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
    pub(crate) stopped_ns: Option<u64>,
    pub(crate) after: Option<SeqTime>,
}

/// All 512 entries of a copy, which has only those that are not empty, with the guest frames that
/// it has.
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

/// Address of an entry of a page.
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
