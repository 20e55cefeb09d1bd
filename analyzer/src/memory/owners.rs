//! Who has the shadow pages over time.

use std::{cmp::Reverse, collections::BTreeMap};

use events::{Gpa, Seq};
use trace::{Record, Sees};

use super::{Snapshot, growth::BINS};
use crate::{
    replay::VmReplay,
    study::{Follow, StudyError, Subject},
};

/// Pages that are looked at, all looks together: a second at most. Later looks are left out.
const MOST_PAGES: u64 = 1 << 22;
/// Address spaces kept of a look.
const KEPT: usize = 32;

/// The tables at the end of a bin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Pages that only one address space leads to, by CR3: those with the most pages.
    pub own: BTreeMap<Gpa, u64>,
    /// Those of further address spaces, and of roots without a CR3.
    pub others: u64,
    /// Pages that several address spaces lead to.
    pub shared: u64,
    /// Pages that no root leads to.
    pub unreached: u64,
    /// Pages beyond the first of each guest table.
    pub duplicates: u64,
}

/// Looks at the tables of one VM at the end of each bin.
#[derive(Clone, Debug)]
pub struct Owners {
    start_ns: u64,
    bin_ns: u64,
    left: u64,
    latest: Seq,
    looks: Vec<Look>,
    most: Option<Snapshot>,
}

impl Owners {
    /// Nothing was read yet.
    pub fn new(subject: &Subject<'_>) -> Self {
        let [start_ns, end] = subject.span_ns;
        Self {
            start_ns,
            bin_ns: (end.saturating_sub(start_ns) / BINS as u64).saturating_add(1),
            left: MOST_PAGES,
            latest: Seq(0),
            looks: Vec::new(),
            most: None,
        }
    }

    /// Length of a bin, ns.
    pub fn bin_ns(&self) -> u64 {
        self.bin_ns
    }

    /// One for each bin from the start on; fewer where there were too many pages to look at.
    pub fn looks(&self) -> &[Look] {
        &self.looks
    }

    /// That with the most pages.
    pub fn most(&self) -> Option<&Snapshot> {
        self.most.as_ref()
    }

    /// Bins that every look was taken of.
    pub fn is_whole(&self) -> bool {
        self.looks.len() == BINS
    }

    /// The CR3s of all looks, those first that had the most pages of their own at any time.
    pub fn largest(&self) -> Vec<Gpa> {
        let mut most: BTreeMap<Gpa, u64> = BTreeMap::new();
        for (cr3, own) in self.looks.iter().flat_map(|look| &look.own) {
            let most = most.entry(*cr3).or_default();
            *most = (*own).max(*most);
        }
        let mut largest: Vec<_> = most.into_iter().collect();
        largest.sort_by_key(|(cr3, own)| (Reverse(*own), *cr3));
        largest.into_iter().map(|(cr3, _)| cr3).collect()
    }

    /// The tables did not change since the last record: they are those at the end of each bin up to
    /// this one.
    fn look(&mut self, bins: usize, vm: Option<&VmReplay>) {
        let bins = bins.min(BINS);
        let pages = vm.map_or(0, |vm| vm.tables().totals().all_pages());
        let Some(left) = self.left.checked_sub(pages) else {
            // Nor is any later one taken: figures end here.
            self.left = 0;
            return;
        };
        if bins <= self.looks.len() {
            return;
        }
        self.left = left;
        let snapshot = vm.map_or_else(Snapshot::default, |vm| Snapshot::owners(vm, self.latest));
        self.looks.resize(bins, Look::of(&snapshot));
        let total = |of: &Snapshot| of.pages.iter().flatten().sum::<u64>();
        if self.most.as_ref().map_or(0, total) < total(&snapshot) {
            self.most = Some(snapshot);
        }
    }
}

impl Look {
    fn of(snapshot: &Snapshot) -> Self {
        let mut own: BTreeMap<Gpa, u64> = BTreeMap::new();
        for space in snapshot.spaces.iter().take(KEPT) {
            if let Some(cr3) = space.cr3() {
                *own.entry(cr3).or_default() += space.own;
            }
        }
        Self {
            others: snapshot.own.saturating_sub(own.values().sum()),
            own,
            shared: snapshot.shared,
            unreached: snapshot.unreached,
            duplicates: snapshot.duplicates,
        }
    }
}

impl Follow for Owners {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        let time = record.time().0.saturating_sub(self.start_ns);
        let ended = usize::try_from(time / self.bin_ns).unwrap_or(usize::MAX);
        if ended > self.looks.len() && self.looks.len() < BINS && self.left > 0 {
            self.look(ended, vm);
        }
        self.latest = record.seq();
    }

    fn after(&mut self, _: &Record, _: Option<&VmReplay>) {}

    fn finish(&mut self, vm: Option<&VmReplay>, _: Sees) -> Result<(), StudyError> {
        if self.left > 0 {
            self.look(BINS, vm);
        }
        Ok(())
    }
}
