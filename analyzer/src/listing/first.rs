//! The first of many, in some order, in bounded memory.

use std::collections::BinaryHeap;

/// Keeps the `most` items that come first in the order of their keys.
#[derive(Clone, Debug)]
pub(super) struct First<K: Ord, T> {
    most: usize,
    /// The last of those kept on top.
    kept: BinaryHeap<Keyed<K, T>>,
}

#[derive(Clone, Debug)]
struct Keyed<K, T> {
    key: K,
    item: T,
}

impl<K: Ord, T> PartialEq for Keyed<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<K: Ord, T> Eq for Keyed<K, T> {}

impl<K: Ord, T> PartialOrd for Keyed<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> Ord for Keyed<K, T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<K: Ord, T> First<K, T> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: BinaryHeap::new(),
        }
    }

    /// Adds one. `item` is made only if it is kept, for now.
    pub(super) fn add(&mut self, key: K, item: impl FnOnce() -> T) {
        if self.kept.len() >= self.most {
            if self.kept.peek().is_none_or(|last| last.key <= key) {
                return;
            }
            self.kept.pop();
        }
        self.kept.push(Keyed { key, item: item() });
    }

    /// Those kept, in order.
    pub(super) fn in_order(&self) -> Vec<&T> {
        let mut kept: Vec<_> = self.kept.iter().collect();
        kept.sort_by(|one, other| one.key.cmp(&other.key));
        kept.into_iter().map(|keyed| &keyed.item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_those_of_a_sorted_list() {
        let keys = [5, 1, 9, 3, 3, 8, 0, 7];
        for most in 0..10 {
            let mut first = First::new(most);
            keys.iter().for_each(|key| first.add(*key, || *key));
            let mut sorted = keys;
            sorted.sort_unstable();
            let expected: Vec<_> = sorted.iter().take(most).collect();
            assert_eq!(first.in_order(), expected, "{most}");
        }
    }
}
