//! What a check found.

use events::{Hpa, Seq};

use super::check::{Check, Why};
use crate::replay::SeqTime;

/// Violations of one check that are kept in full.
const KEPT: usize = 100;

/// A place where an invariant does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The record that shows it: of a keyframe, its mark.
    pub at: SeqTime,
    /// A keyframe shows it: KVM's own tables hold it.
    pub in_keyframe: bool,
    /// The entry or the page.
    pub place: Hpa,
    /// What the rule demands there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Since when the tables must be right for this to be one: records that are missing since then
    /// leave it undecided.
    pub since: SeqTime,
}

/// How often a check held, and where it did not.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    checked: u64,
    violated: u64,
    first: Vec<Violation>,
    left_out: [u64; Why::ALL.len()],
}

impl Tally {
    /// Places that were checked, those where it does not hold included.
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// Places where it does not hold.
    pub fn violated(&self) -> u64 {
        self.violated
    }

    /// The first of those.
    pub fn first(&self) -> &[Violation] {
        &self.first
    }

    /// Places that could not be checked.
    pub(super) fn all_left_out(&self) -> u64 {
        self.left_out.iter().sum()
    }

    /// Places that could not be checked, by reason.
    pub fn left_out(&self) -> impl Iterator<Item = (Why, u64)> {
        let counts = Why::ALL.into_iter().zip(self.left_out);
        counts.filter(|(_, number)| *number > 0)
    }
}

/// The moment that is being checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    pub(super) at: SeqTime,
    pub(super) in_keyframe: bool,
    pub(super) since: SeqTime,
}

/// The tallies of all checks.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    all: [Tally; Check::ALL.len()],
    pub(super) now: Now,
}

impl Tallies {
    pub(super) fn of(&self, check: Check) -> &Tally {
        // An index below the number of checks.
        &self.all[check.index()]
    }

    /// A place holds.
    pub(super) fn holds(&mut self, check: Check) {
        self.all[check.index()].checked += 1;
    }

    /// A place could not be checked.
    pub(super) fn leave_out(&mut self, check: Check, why: Why) {
        self.all[check.index()].left_out[why.index()] += 1;
    }

    /// A place does not hold; the words are made for those that are kept.
    pub(super) fn violated(&mut self, check: Check, place: Hpa, words: impl FnOnce() -> Words) {
        let tally = &mut self.all[check.index()];
        tally.checked += 1;
        tally.violated += 1;
        if tally.first.len() < KEPT {
            let Words { expected, found } = words();
            tally.first.push(Violation {
                at: self.now.at,
                in_keyframe: self.now.in_keyframe,
                place,
                expected,
                found,
                since: self.now.since,
            });
        }
    }

    /// A place holds, or does not.
    pub(super) fn check(
        &mut self,
        check: Check,
        holds: bool,
        place: Hpa,
        words: impl FnOnce() -> Words,
    ) {
        if holds {
            self.holds(check);
        } else {
            self.violated(check, place, words);
        }
    }
}

/// What a rule demands, and what is there.
pub(super) struct Words {
    pub(super) expected: String,
    pub(super) found: String,
}

impl Words {
    pub(super) fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// Before the first record.
pub(super) const NEVER: SeqTime = SeqTime {
    seq: Seq(0),
    time: events::TimeNs(0),
};
