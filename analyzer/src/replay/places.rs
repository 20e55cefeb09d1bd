//! Addresses of entries: the reverse maps of the shadow tables.

use std::collections::hash_map::Entry;
use std::hash::Hash;

use events::Hpa;

use super::hash::AddressMap;

/// Places of a key that are searched one by one; of more, each one's position is known.
const FEW: usize = 64;

/// The places (`sptep`) of one key. Most keys have one, so that one costs no allocation.
#[derive(Clone, Debug)]
enum Places {
    One(Hpa),
    Few(Vec<Hpa>),
    /// More than [`FEW`]. Boxed, since a map has as many of these as leaves have frames.
    Many(Box<Many>),
}

/// Places with the position of each: where a trace has many, it removes many.
#[derive(Clone, Debug)]
struct Many {
    places: Vec<Hpa>,
    positions: AddressMap<Hpa, u32>,
}

impl Places {
    fn all(&self) -> &[Hpa] {
        match self {
            Places::One(place) => std::slice::from_ref(place),
            Places::Few(places) => places,
            Places::Many(many) => &many.places,
        }
    }

    /// A place is added at most once by who holds the reverse map.
    fn add(&mut self, place: Hpa) {
        match self {
            Places::One(first) => *self = Places::Few(vec![*first, place]),
            Places::Few(places) if places.len() < FEW => places.push(place),
            Places::Few(places) => {
                places.push(place);
                let positions = places.iter().copied().zip(0..).collect();
                let places = std::mem::take(places);
                *self = Places::Many(Box::new(Many { places, positions }));
            }
            Places::Many(many) => {
                let position = u32::try_from(many.places.len()).unwrap_or(u32::MAX);
                many.positions.insert(place, position);
                many.places.push(place);
            }
        }
    }

    /// Whether there is none afterwards.
    fn remove(&mut self, place: Hpa) -> bool {
        match self {
            Places::One(one) => *one == place,
            Places::Few(places) => {
                // From the end: what was mapped last is often unmapped first.
                if let Some(at) = places.iter().rposition(|other| *other == place) {
                    places.swap_remove(at);
                }
                places.is_empty()
            }
            Places::Many(many) => {
                let Many { places, positions } = &mut **many;
                if let Some(position) = positions.remove(&place) {
                    let at = position as usize;
                    places.swap_remove(at);
                    if let Some(moved) = places.get(at) {
                        positions.insert(*moved, position);
                    }
                }
                places.is_empty()
            }
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
            Entry::Occupied(mut occupied) => {
                let before = occupied.get().all().len();
                occupied.get_mut().add(place);
                before
            }
        }
    }

    /// Removes a place, if present.
    pub(crate) fn remove(&mut self, key: K, place: Hpa) {
        let Entry::Occupied(mut occupied) = self.0.entry(key) else {
            return;
        };
        if occupied.get_mut().remove(place) {
            occupied.remove();
        }
    }

    /// Takes all places of a key out.
    pub(crate) fn take(&mut self, key: K) -> Vec<Hpa> {
        match self.0.remove(&key) {
            None => Vec::new(),
            Some(Places::One(place)) => vec![place],
            Some(Places::Few(places)) => places,
            Some(Places::Many(many)) => many.places,
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
