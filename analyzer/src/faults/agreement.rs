//! Whether the numbers of one fault agree with each other.

use events::{Level, Seq};
use trace::{FaultRow, VmMeta};

use super::{FaultStep, Memslots};

/// A check of one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// `hva - slot.hva + slot.gpa == gpa`.
    HvaOfGpa,
    /// The frame is the one in the leaf SPTE.
    PfnInSpte,
    /// The leaf is at the address's index in its table.
    IndexOfGva,
    /// The steps take no longer than the fault.
    StepsInTotal,
}

impl Check {
    /// Every check.
    pub const ALL: [Check; 4] = [
        Self::HvaOfGpa,
        Self::PfnInSpte,
        Self::IndexOfGva,
        Self::StepsInTotal,
    ];

    /// What is checked.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HvaOfGpa => "hva - slot hva + slot gpa = gpa",
            Self::PfnInSpte => "pfn = frame in the SPTE",
            Self::IndexOfGva => "sptep index = index of the gva",
            Self::StepsInTotal => "sum of the steps <= total",
        }
    }

    /// Whether it holds; `None` where the fault lacks what it compares.
    pub fn holds(self, row: &FaultRow, slots: &Memslots) -> Option<bool> {
        match self {
            Self::HvaOfGpa => {
                let (gpa, hva) = (row.gpa?, row.hva?);
                let slot = slots.of_fault(row)?;
                Some(hva.0.wrapping_sub(slot.hva).wrapping_add(slot.gpa) == gpa.0)
            }
            Self::PfnInSpte => {
                let (pfn, spte, level) = (row.pfn?, row.spte?, row.level?);
                if !spte.is_leaf(level) {
                    return None;
                }
                let within = level.pages() - 1;
                Some(pfn.0 & !within == spte.pfn().0 & !within)
            }
            Self::IndexOfGva => {
                let (place, level): (_, Level) = (row.sptep?, row.level?);
                Some(place.index() == level.index(row.gva)?)
            }
            Self::StepsInTotal => {
                let mut together = None;
                for step in FaultStep::ALL {
                    if let (None, Some(ns)) = (step.part_of(), step.counted(row)) {
                        together = Some(together.unwrap_or(0_u64).saturating_add(ns));
                    }
                }
                Some(together? <= row.total_ns)
            }
        }
    }
}

/// Results of one check over all faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults that have what it compares.
    pub checked: u64,
    /// Faults for which it does not hold.
    pub wrong: u64,
    /// The first of those.
    pub first: Option<Seq>,
}

/// Results of every check.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    slots: Memslots,
    /// In the order of [`Check::ALL`].
    tallies: [Tally; Check::ALL.len()],
}

impl Agreement {
    /// Of a VM; without its metadata, what needs its memslots is not checked.
    pub fn new(vm: Option<&VmMeta>) -> Self {
        Self {
            slots: vm.map(Memslots::of).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Checks a fault.
    pub fn add(&mut self, row: &FaultRow) {
        for (tally, check) in self.tallies.iter_mut().zip(Check::ALL) {
            let Some(holds) = check.holds(row, &self.slots) else {
                continue;
            };
            tally.checked += 1;
            if !holds {
                tally.wrong += 1;
                tally.first = tally.first.or(Some(row.seq));
            }
        }
    }

    /// The results.
    pub fn tallies(&self) -> impl Iterator<Item = (Check, Tally)> {
        Check::ALL.into_iter().zip(self.tallies)
    }

    /// Faults for which a check does not hold.
    pub fn wrong(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.wrong).sum()
    }
}
