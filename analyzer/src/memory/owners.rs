//! Who has the shadow pages over time.

use std::{cmp::Reverse, collections::BTreeMap};

use events::{Gpa, PageEvent, Seq};
use trace::{Record, Sees};

use super::{Snapshot, growth::BINS};
use crate::{
    replay::VmReplay,
    study::{Follow, StudyError, Subject},
};

/// Pages and links that are looked at, all looks together: a second at most. Each bin has an equal
/// part of it; with too many pages, the next look is some bins later.
const MOST_WORK: u64 = 1 << 20;
/// The tables at the end of a bin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Pages that only one address space leads to, by CR3: those that a snapshot lists.
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
    work: u64,
    /// Bins that had ended when a look was last due.
    due: usize,
    /// A look was put off.
    is_coarse: bool,
    latest: Seq,
    /// A fault is under way that makes pages: not all of them are linked.
    amid: bool,
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
            work: 0,
            due: 0,
            is_coarse: false,
            latest: Seq(0),
            amid: false,
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

    /// There is a look for every bin.
    pub fn is_whole(&self) -> bool {
        self.looks.len() == BINS
    }

    /// Some bins have the look of a later one.
    pub fn is_coarse(&self) -> bool {
        self.is_coarse
    }

    /// The CR3s of all looks, those first that cost the most, then those that had the most pages of
    /// their own at any time.
    pub fn spaces(&self, cost: impl Fn(Gpa) -> u64) -> Vec<Gpa> {
        let mut most: BTreeMap<Gpa, u64> = BTreeMap::new();
        for (cr3, own) in self.looks.iter().flat_map(|look| &look.own) {
            let most = most.entry(*cr3).or_default();
            *most = (*own).max(*most);
        }
        let mut spaces: Vec<_> = most.into_iter().collect();
        spaces.sort_by_key(|(cr3, own)| (Reverse((cost(*cr3), *own)), *cr3));
        spaces.into_iter().map(|(cr3, _)| cr3).collect()
    }

    /// The tables are those at the end of each bin up to this one since the last record; those before
    /// that were put off have this look too.
    fn look(&mut self, bins: usize, vm: Option<&VmReplay>) {
        let totals = vm.map(|vm| *vm.tables().totals()).unwrap_or_default();
        let work = totals.all_pages().saturating_add(totals.links);
        let allowed = MOST_WORK / BINS as u64 * bins as u64;
        if self.work.saturating_add(work) > allowed {
            self.is_coarse = true;
            return;
        }
        self.work += work;
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
        for space in &snapshot.spaces {
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
        let ended = ended.min(BINS);
        if ended > self.due && !self.amid {
            self.due = ended;
            self.look(ended, vm);
        }
        self.latest = record.seq();
        self.amid = match record {
            Record::Page(row) => self.amid || row.event == PageEvent::Born,
            Record::Fault(_) | Record::Mark(_) | Record::Keyframe(_) => false,
            _ => self.amid,
        };
    }

    fn after(&mut self, _: &Record, _: Option<&VmReplay>) {}

    fn finish(&mut self, vm: Option<&VmReplay>, _: Sees) -> Result<(), StudyError> {
        if self.looks.len() < BINS {
            self.look(BINS, vm);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trace::Meta;

    use super::*;

    #[test]
    fn a_costly_address_space_with_few_pages_comes_first() {
        let mut owners = Owners::new(&Subject {
            vm: events::VmId(0),
            recording: &Meta::default(),
            meta: None,
            span_ns: [0; 2],
        });
        // More than have an area of their own.
        let own = (1..=40).map(|cr3| (Gpa(cr3 << 12), cr3));
        owners.looks = vec![Look {
            own: own.collect(),
            ..Look::default()
        }];
        let cost = |cr3: Gpa| u64::from(cr3 == Gpa(0x1000)) * 1000;
        let first = owners.spaces(cost).into_iter().take(2);
        assert_eq!(first.collect::<Vec<_>>(), [Gpa(0x1000), Gpa(40 << 12)]);
    }
}
