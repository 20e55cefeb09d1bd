//! Addresses of entries: the reverse maps of the shadow tables.

use std::collections::hash_map::Entry;
use std::hash::Hash;

use events::Hpa;

use super::hash::AddressMap;

/// The places (`sptep`) of one key. Most keys have one, so that one costs no allocation.
#[derive(Clone, Debug)]
enum Places {
    One(Hpa),
    Many(Vec<Hpa>),
}

impl Places {
    fn all(&self) -> &[Hpa] {
        match self {
            Places::One(place) => std::slice::from_ref(place),
            Places::Many(places) => places,
        }
    }
}

/// From a key (a guest frame, a child table) to the entries that map it, as KVM's `rmap` and
/// `parent_ptes` do.
#[derive(Clone, Debug)]
pub(crate) struct ReverseMap<K>(AddressMap<K, Places>);

impl<K> Default for ReverseMap<K> {
    fn default() -> Self {
        Self(AddressMap::default())
    }
}

impl<K: Eq + Hash + Copy> ReverseMap<K> {
    /// Adds a place; gives the number of places there were before.
    pub(crate) fn add(&mut self, key: K, place: Hpa) -> usize {
        match self.0.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(Places::One(place));
                0
            }
            Entry::Occupied(mut occupied) => match occupied.get_mut() {
                Places::One(first) => {
                    let first = *first;
                    *occupied.get_mut() = Places::Many(vec![first, place]);
                    1
                }
                Places::Many(places) => {
                    places.push(place);
                    places.len() - 1
                }
            },
        }
    }

    /// Removes a place, if present.
    pub(crate) fn remove(&mut self, key: K, place: Hpa) {
        let Entry::Occupied(mut occupied) = self.0.entry(key) else {
            return;
        };
        let empty = match occupied.get_mut() {
            Places::One(one) => *one == place,
            Places::Many(places) => {
                // From the end: what was mapped last is often unmapped first.
                if let Some(at) = places.iter().rposition(|other| *other == place) {
                    places.swap_remove(at);
                }
                places.is_empty()
            }
        };
        if empty {
            occupied.remove();
        }
    }

    /// Takes all places of a key out.
    pub(crate) fn take(&mut self, key: K) -> Vec<Hpa> {
        match self.0.remove(&key) {
            None => Vec::new(),
            Some(Places::One(place)) => vec![place],
            Some(Places::Many(places)) => places,
        }
    }

    /// The places of a key.
    pub(crate) fn get(&self, key: K) -> &[Hpa] {
        self.0.get(&key).map_or(&[], Places::all)
    }

    /// Every key with its places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &[Hpa])> {
        self.0.iter().map(|(key, places)| (*key, places.all()))
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
