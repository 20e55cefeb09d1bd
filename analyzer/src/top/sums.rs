//! Sums by key, in bounded memory.

use trace::FaultRow;

use crate::{faults::Sum, replay::AddressMap};

/// Keys that have a sum of their own: 64 MiB at most. Faults of later keys are added up in
/// `others`.
pub const KEYS: usize = 1 << 18;

/// Sums by key. Most records have the key of the one before: the map is asked once for each run of
/// them.
#[derive(Clone, Debug)]
pub struct Sums {
    /// Each key with its sum, the first one first.
    keys: Vec<(u64, Sum)>,
    places: AddressMap<u64, usize>,
    limit: usize,
    /// The latest key and its place; past the end for one of the others.
    latest: Option<(u64, usize)>,
    keyless: Sum,
    others: Sum,
    all: Sum,
}

impl Sums {
    /// With at most `limit` keys.
    pub(super) fn with_limit(limit: usize) -> Self {
        Self {
            keys: Vec::new(),
            places: AddressMap::default(),
            limit,
            latest: None,
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
        let place = match self.latest {
            Some((of, place)) if of == key => place,
            _ => self.place(key),
        };
        self.latest = Some((key, place));
        let sum = self.keys.get_mut(place).map(|(_, sum)| sum);
        sum.unwrap_or(&mut self.others).add_fault(fault);
    }

    /// Where a key is, or will be.
    fn place(&mut self, key: u64) -> usize {
        let next = self.keys.len();
        if next >= self.limit {
            return self.places.get(&key).copied().unwrap_or(usize::MAX);
        }
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.keys.push((key, Sum::default()));
        }
        place
    }

    /// No more records.
    pub(super) fn finish(&mut self) {
        let sums = self.keys.iter().map(|(_, sum)| sum);
        for sum in sums.chain([&self.others, &self.keyless]) {
            self.all.add(sum);
        }
    }

    /// One key.
    pub(super) fn get(&self, key: u64) -> Option<&Sum> {
        let place = *self.places.get(&key)?;
        self.keys.get(place).map(|(_, sum)| sum)
    }

    /// Every key with its sum, by key.
    pub(super) fn sorted(&self) -> Vec<(u64, Sum)> {
        let mut keys = self.keys.clone();
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
