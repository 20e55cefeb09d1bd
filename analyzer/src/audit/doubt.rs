//! Records that are missing, after which a violation is not proved.

use trace::LossRow;

use super::{Audit, Check, Violation};
use crate::{replay::Gaps, study::Study};

/// What is missing of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Doubt<'a> {
    gaps: &'a Gaps,
    losses: &'a [LossRow],
}

impl<'a> Doubt<'a> {
    /// By one reading of a trace.
    pub fn of<F>(study: &'a Study<F>) -> Self {
        Self {
            gaps: &study.gaps,
            losses: &study.losses,
        }
    }

    /// Whether any record is missing.
    pub fn is_any(&self) -> bool {
        self.gaps.missing() > 0 || !self.losses.is_empty()
    }

    /// Whether nothing is missing since the tables were right for the last time.
    pub fn proves(&self, violation: &Violation) -> bool {
        let (since, at) = (violation.since, violation.at);
        let lost = |row: &LossRow| row.from_ns <= at.time && since.time <= row.time_ns;
        !self.gaps.is_missing_between(since.seq, at.seq) && !self.losses.iter().any(lost)
    }

    /// Violations of a check that are proved, and those that are not. Of those that are only
    /// counted none is proved if any record is missing.
    pub fn split(&self, audit: &Audit, check: Check) -> [u64; 2] {
        let tally = audit.tally(check);
        if !self.is_any() {
            return [tally.violated(), 0];
        }
        let kept = tally.first().iter();
        let proved = kept.filter(|violation| self.proves(violation)).count() as u64;
        [proved, tally.violated().saturating_sub(proved)]
    }
}
