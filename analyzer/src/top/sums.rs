//! Sums by key, in bounded memory.

use trace::FaultRow;

use crate::{faults::Sum, replay::AddressMap};

/// Keys that have a sum of their own: 64 MiB at most. Faults of later keys are added up in
/// `others`.
pub const KEYS: usize = 1 << 18;

/// Sums by key. Most records have the key of the one before: those are added up first, so that
/// the map is asked once for each run of them.
#[derive(Clone, Debug)]
pub struct Sums {
    keys: AddressMap<u64, Sum>,
    limit: usize,
    run: Option<(u64, Sum)>,
    keyless: Sum,
    others: Sum,
    all: Sum,
}

impl Sums {
    /// With at most `limit` keys.
    pub(super) fn with_limit(limit: usize) -> Self {
        Self {
            keys: AddressMap::default(),
            limit,
            run: None,
            keyless: Sum::default(),
            others: Sum::default(),
            all: Sum::default(),
        }
    }

    /// Adds a fault; without a key it is counted apart.
    pub(super) fn add(&mut self, key: Option<u64>, fault: &FaultRow) {
        let Some(key) = key else {
            self.keyless.add_fault(fault);
            return;
        };
        match &mut self.run {
            Some((of, run)) if *of == key => run.add_fault(fault),
            _ => {
                self.end_run();
                self.run = Some((key, Sum::of_fault(fault)));
            }
        }
    }

    fn end_run(&mut self) {
        let Some((key, run)) = self.run.take() else {
            return;
        };
        self.all.add(&run);
        let is_full = self.keys.len() >= self.limit;
        match self.keys.get_mut(&key) {
            Some(sum) => sum.add(&run),
            None if is_full => self.others.add(&run),
            None => _ = self.keys.insert(key, run),
        }
    }

    /// No more records.
    pub(super) fn finish(&mut self) {
        self.end_run();
        self.all.add(&self.keyless);
    }

    /// One key.
    pub(super) fn get(&self, key: u64) -> Option<&Sum> {
        self.keys.get(&key)
    }

    /// Every key with its sum, by key.
    pub(super) fn sorted(&self) -> Vec<(u64, Sum)> {
        let mut keys: Vec<_> = self.keys.iter().map(|(key, sum)| (*key, *sum)).collect();
        keys.sort_by_key(|(key, _)| *key);
        keys
    }

    /// Those of records that have no key.
    pub(super) fn keyless(&self) -> &Sum {
        &self.keyless
    }

    /// Those of the keys that came after the last one that has a sum of its own.
    pub(super) fn others(&self) -> &Sum {
        &self.others
    }

    /// Of all records.
    pub(super) fn all(&self) -> &Sum {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use events::Seq;

    use super::*;
    use crate::replay::blank_fault;

    #[test]
    fn keys_past_the_limit_are_others_and_nothing_is_dropped() {
        let mut sums = Sums::with_limit(2);
        let keys = [Some(1), Some(1), Some(2), Some(3), None, Some(1), Some(4)];
        for (seq, key) in (0..).zip(keys) {
            sums.add(key, &blank_fault(Seq(seq)));
        }
        sums.finish();
        let counts: Vec<_> = sums.sorted().iter().map(|(k, s)| (*k, s.count)).collect();
        assert_eq!(counts, [(1, 3), (2, 1)]);
        assert_eq!((sums.keyless().count, sums.others().count), (1, 2));
        assert_eq!(sums.all().count, 7);
        let seen = sums.others().seen.map(|seen| seen.map(|of| of.seq.0));
        assert_eq!(seen, Some([3, 6]));
    }
}
