//! Shadow pages over time.

use std::collections::BTreeMap;

use events::{Hpa, Level, PageEvent, Role, Seq, TimeNs};
use trace::{PageRow, Record};

use crate::{
    replay::{MAX_LEVEL, ShadowTables, VmReplay},
    study::{Follow, Subject},
};

/// Bins of a recording.
pub(super) const BINS: usize = 240;

/// Roles counted apart. A guest has a few; bounds a hostile trace.
const MOST_ROLES: usize = 64;

/// Pages by level, `[level - 1]`: those that shadow a guest table, and direct ones.
pub type Pages = [[u64; 2]; MAX_LEVEL];

/// The tables at the end of a span of time, and what happened in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Pages at its end.
    pub pages: Pages,
    /// The same by role; those of further roles than are kept are in none.
    pub roles: Vec<(Role, u64)>,
    /// Distinct guest tables that are shadowed at its end.
    pub guest_tables: u64,
    /// Memory that the leaves map at its end, bytes; a frame that is mapped twice counts twice.
    pub mapped_bytes: u64,
    /// Pages made in it.
    pub made: u64,
    /// Pages found again in it.
    pub reused: u64,
    /// Pages zapped in it.
    pub zapped: u64,
}

/// The moment with the most shadow pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// The first record after which there were so many; that of the fault that made the last of
    /// them, once its tables are linked.
    pub seq: Seq,
    /// When.
    pub time: TimeNs,
    /// Pages.
    pub pages: u64,
    /// The same by level.
    pub by_level: Pages,
}

/// Events of pages of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Made.
    pub made: u64,
    /// Found again by frame and role.
    pub reused: u64,
    /// Zapped.
    pub zapped: u64,
}

/// The growth of one VM's shadow tables.
#[derive(Clone, Debug)]
pub struct Growth {
    start_ns: u64,
    bin_ns: u64,
    /// How many are kept: none where only totals are of interest.
    most_bins: usize,
    /// Empty until the first change.
    bins: Vec<Option<Bin>>,
    pages: Pages,
    /// The same by role, where something is kept over time.
    roles: BTreeMap<Role, u64>,
    events: [Events; MAX_LEVEL],
    peak: Peak,
    /// The fault that made the last page of the peak is under way.
    peak_is_open: bool,
    /// The page of the record that is applied was there before it.
    was_there: bool,
}

impl Growth {
    /// Nothing was read yet; the peak and the events are counted, and nothing over time.
    pub fn totals(subject: &Subject<'_>) -> Self {
        Self {
            most_bins: 0,
            ..Self::new(subject)
        }
    }

    /// Nothing was read yet.
    pub fn new(subject: &Subject<'_>) -> Self {
        let [start_ns, end] = subject.span_ns;
        Self {
            start_ns,
            bin_ns: (end.saturating_sub(start_ns) / BINS as u64).saturating_add(1),
            most_bins: BINS,
            bins: Vec::new(),
            pages: Pages::default(),
            roles: BTreeMap::new(),
            events: [Events::default(); MAX_LEVEL],
            peak: Peak::default(),
            peak_is_open: false,
            was_there: false,
        }
    }

    /// The moment with the most pages.
    pub fn peak(&self) -> Peak {
        self.peak
    }

    /// Events of pages by level, `[level - 1]`.
    pub fn events(&self) -> &[Events; MAX_LEVEL] {
        &self.events
    }

    /// Length of a bin, ns.
    pub fn bin_ns(&self) -> u64 {
        self.bin_ns
    }

    /// Whether an event of a page counts. KVM prepares the zap of a root in use, and once more when
    /// its last user leaves it (`kvm_mmu_free_roots`): the second record zaps nothing.
    pub fn counts(&self, event: PageEvent) -> bool {
        event != PageEvent::Zapped || self.was_there
    }

    /// Bins with a change, each with its beginning in ns from the start.
    pub fn bins(&self) -> impl Iterator<Item = (u64, &Bin)> {
        let starts = (0..).map(|index: u64| index.saturating_mul(self.bin_ns));
        let bins = starts.zip(&self.bins);
        bins.filter_map(|(start, bin)| Some((start, bin.as_ref()?)))
    }

    fn bin(&mut self, time: TimeNs) -> Option<&mut Bin> {
        let index = time.0.saturating_sub(self.start_ns) / self.bin_ns;
        let last = self.most_bins.checked_sub(1)?;
        let index = usize::try_from(index).ok()?.min(last);
        if self.bins.is_empty() {
            self.bins.resize(self.most_bins, None);
        }
        Some(self.bins.get_mut(index)?.get_or_insert_default())
    }

    /// A page is no longer, or newly, what it was.
    fn count(&mut self, tables: &ShadowTables, spt: Hpa, add: bool) {
        let Some(page) = tables.page(spt) else { return };
        let of = at(&mut self.pages, page.info.level);
        let of = &mut of[usize::from(page.info.direct)];
        *of = match add {
            true => *of + 1,
            false => of.saturating_sub(1),
        };
        let role = page.info.role;
        match add {
            true => self.add_role(role),
            false => {
                if let Some(pages) = self.roles.get_mut(&role) {
                    *pages = pages.saturating_sub(1);
                }
            }
        }
    }

    fn add_role(&mut self, role: Role) {
        let is_kept = self.roles.len() < MOST_ROLES || self.roles.contains_key(&role);
        if self.most_bins > 0 && is_kept {
            *self.roles.entry(role).or_default() += 1;
        }
    }

    fn event(&mut self, row: &PageRow) {
        if !self.counts(row.event) {
            return;
        }
        let of = at(&mut self.events, row.level);
        match row.event {
            PageEvent::Born => of.made += 1,
            PageEvent::Reused => of.reused += 1,
            PageEvent::Zapped => of.zapped += 1,
            PageEvent::Unsync | PageEvent::Sync => return,
        }
        if let Some(bin) = self.bin(row.time_ns) {
            match row.event {
                PageEvent::Born => bin.made += 1,
                PageEvent::Reused => bin.reused += 1,
                _ => bin.zapped += 1,
            }
        }
    }

    /// A keyframe may add pages and take some away.
    fn count_again(&mut self, tables: &ShadowTables) {
        self.pages = Pages::default();
        self.roles.values_mut().for_each(|pages| *pages = 0);
        for page in tables.pages() {
            at(&mut self.pages, page.info.level)[usize::from(page.info.direct)] += 1;
            self.add_role(page.info.role);
        }
    }

    fn note(&mut self, seq: Seq, time: TimeNs, tables: &ShadowTables) {
        let totals = tables.totals();
        let pages = totals.all_pages();
        if pages > self.peak.pages {
            self.peak = Peak {
                seq,
                time,
                pages,
                by_level: self.pages,
            };
            self.peak_is_open = true;
        }
        let levels = (1_u8..).zip(totals.leaves_at);
        let mapped = levels.map(|(level, leaves)| {
            let span = Level(level).pages().saturating_mul(super::PAGE_BYTES);
            leaves.saturating_mul(span)
        });
        let (now, guest_tables) = (self.pages, tables.guest_tables());
        let mapped_bytes = mapped.fold(0, u64::saturating_add);
        let roles = std::mem::take(&mut self.roles);
        if let Some(bin) = self.bin(time) {
            bin.pages = now;
            bin.roles.clear();
            bin.roles
                .extend(roles.iter().map(|(role, pages)| (*role, *pages)));
            bin.guest_tables = guest_tables;
            bin.mapped_bytes = mapped_bytes;
        }
        self.roles = roles;
    }
}

/// Whether what is counted of a page may be other after a record of it.
fn may_change(record: &Record) -> bool {
    match record {
        Record::Page(row) => matches!(row.event, PageEvent::Born | PageEvent::Zapped),
        Record::Keyframe(_) => true,
        _ => false,
    }
}

/// The element of a level; strange levels count as the highest.
fn at<T>(of: &mut [T; MAX_LEVEL], level: Level) -> &mut T {
    let [one, two, three, four, five] = of;
    match level.0 {
        0 | 1 => one,
        2 => two,
        3 => three,
        4 => four,
        _ => five,
    }
}

impl Follow for Growth {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        let spt = match record {
            Record::Page(row) => row.spt,
            Record::Keyframe(page) => page.spt,
            _ => return,
        };
        let tables = vm.map(VmReplay::tables);
        self.was_there = tables.is_some_and(|tables| tables.page(spt).is_some());
        if let Some(tables) = tables.filter(|_| may_change(record)) {
            self.count(tables, spt, false);
        }
    }

    fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        let Some(vm) = vm else { return };
        let tables = vm.tables();
        match record {
            Record::Page(row) => {
                if may_change(record) {
                    self.count(tables, row.spt, true);
                }
                self.event(row);
                self.note(row.seq, row.time_ns, tables);
            }
            // Until its end a keyframe may have given some of the pages, and one of them be zapped.
            Record::Keyframe(page) => self.count(tables, page.spt, true),
            Record::Mark(row) if row.ends_keyframe().is_some() => {
                self.count_again(tables);
                self.note(row.seq, row.time_ns, tables);
            }
            Record::Fault(row)
                if row.sptep.is_some() && (self.peak_is_open || self.most_bins > 0) =>
            {
                self.note(row.seq, row.time_ns, tables);
                let open = std::mem::take(&mut self.peak_is_open);
                if open && tables.totals().all_pages() == self.peak.pages {
                    (self.peak.seq, self.peak.time) = (row.seq, row.time_ns);
                    self.peak.by_level = self.pages;
                }
            }
            _ => {}
        }
    }
}
