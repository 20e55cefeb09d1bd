//! Sequence numbers that no record carries.

use std::collections::BTreeMap;

use events::{Seq, TimeNs};
use trace::Trace;

/// A stretch of missing sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First missing number.
    pub from: Seq,
    /// First number after the gap.
    pub to: Seq,
    /// Time of the record before, ns.
    pub from_time: TimeNs,
    /// Time of the record after, ns.
    pub to_time: TimeNs,
}

/// Follows the sequence numbers of a trace.
///
/// A record may come late (see [`trace::Records`]): it closes the gap that its absence opened.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    next: Seq,
    latest: TimeNs,
    /// By their first numbers: a late record closes one in the midst of many.
    gaps: BTreeMap<Seq, Gap>,
    missing: u64,
    repeated: u64,
}

/// Gaps kept apart; further ones lengthen the last. Bounds a hostile trace.
const KEPT: usize = 1 << 16;

impl Gaps {
    /// Of a trace of which nothing was read yet. What a recording dropped before the part that it
    /// kept is no gap in that.
    pub fn of(trace: &Trace) -> Self {
        trace
            .meta()
            .begin()
            .map_or_else(Self::default, |begin| Self {
                next: Seq(begin.seq),
                latest: TimeNs(begin.time_ns),
                ..Self::default()
            })
    }

    /// A record's number and time.
    pub(crate) fn observe(&mut self, seq: Seq, time: TimeNs) {
        if seq == self.next {
            self.next = Seq(seq.0.saturating_add(1));
        } else if seq > self.next {
            self.open(seq, time);
        } else {
            self.close(seq);
        }
        self.latest = self.latest.max(time);
    }

    /// The recorder made `records` records up to `time`: what is missing after the last is a gap.
    pub(crate) fn end(&mut self, records: u64, time: TimeNs) {
        if records > self.next.0 {
            self.open(Seq(records), time);
            self.next = Seq(records);
        }
    }

    fn open(&mut self, seq: Seq, time: TimeNs) {
        self.missing = self.missing.saturating_add(seq.0 - self.next.0);
        if self.gaps.len() < KEPT {
            let gap = Gap {
                from: self.next,
                to: seq,
                from_time: self.latest,
                to_time: time,
            };
            self.gaps.insert(gap.from, gap);
        } else if let Some(mut last) = self.gaps.last_entry() {
            last.get_mut().to = seq;
            last.get_mut().to_time = time;
        }
        self.next = Seq(seq.0.saturating_add(1));
    }

    fn close(&mut self, seq: Seq) {
        let is_full = self.gaps.len() >= KEPT;
        let before = self.gaps.range_mut(..=seq).next_back();
        let Some((_, gap)) = before.filter(|(_, gap)| seq < gap.to) else {
            self.repeated += 1;
            return;
        };
        self.missing = self.missing.saturating_sub(1);
        let (from, whole) = (gap.from, gap.to);
        let after = Gap {
            from: Seq(seq.0 + 1),
            ..*gap
        };
        gap.to = seq;
        if from == seq {
            self.gaps.remove(&from);
        } else if is_full && after.from < whole {
            // It stays one, a record too long.
            gap.to = whole;
            return;
        }
        if after.from < whole {
            self.gaps.insert(after.from, after);
        }
    }

    /// The gaps, in order.
    pub fn gaps(&self) -> impl ExactSizeIterator<Item = &Gap> {
        self.gaps.values()
    }

    /// Whether any number between two is missing.
    pub fn is_missing_between(&self, from: Seq, to: Seq) -> bool {
        // The last gap that begins before `to` ends last of them.
        let before = self.gaps.range(..to).next_back();
        before.is_some_and(|(_, gap)| gap.to > from)
    }

    /// Missing numbers in all.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Records whose number another had already.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Missing numbers between two.
    pub fn missing_between(&self, from: Seq, to: Seq) -> u64 {
        let within = |gap: &Gap| gap.to.0.min(to.0).saturating_sub(gap.from.0.max(from.0));
        let before = self.gaps.range(..to).rev().map(|(_, gap)| gap);
        before.take_while(|gap| gap.to > from).map(within).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(order: &[u64]) -> Gaps {
        let mut gaps = Gaps::default();
        for &seq in order {
            gaps.observe(Seq(seq), TimeNs(seq * 10));
        }
        gaps
    }

    #[test]
    fn a_late_record_closes_the_gap_it_opened() {
        assert_eq!(gaps(&[0, 2, 1, 3]).gaps().len(), 0);
        assert_eq!(gaps(&[0, 5, 2]).missing(), 3);
        let both = gaps(&[0, 5, 2]);
        let ends: Vec<_> = both.gaps().map(|gap| (gap.from.0, gap.to.0)).collect();
        assert_eq!(ends, [(1, 2), (3, 5)]);
        assert_eq!(both.missing_between(Seq(0), Seq(4)), 2);
        let is_missing = |from, to| both.is_missing_between(Seq(from), Seq(to));
        assert!(is_missing(0, 2) && is_missing(2, 4) && is_missing(4, 9));
        assert!(!is_missing(0, 1) && !is_missing(2, 3) && !is_missing(5, 9));
    }

    #[test]
    fn the_recorders_own_count_shows_a_missing_end() {
        let mut gaps = gaps(&[0, 1]);
        gaps.end(4, TimeNs(99));
        assert_eq!(gaps.missing(), 2);
        gaps.end(4, TimeNs(99));
        assert_eq!(gaps.missing(), 2);
    }

    #[test]
    fn a_number_twice_is_counted() {
        assert_eq!(gaps(&[0, 1, 1, 0]).repeated(), 2);
    }
}
