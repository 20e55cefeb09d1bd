//! A hasher for addresses and frame numbers.
//!
//! The keys are page-aligned addresses or counted frames: one multiplication spreads them, where
//! the standard hasher costs more than the whole store of an entry. The key is drawn once a
//! process, so that a hostile trace cannot aim at collisions.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hasher, RandomState},
    sync::OnceLock,
};

/// A map keyed by an address.
pub(crate) type AddressMap<K, V> = HashMap<K, V, AddressState>;
/// A set of addresses.
pub type AddressSet<K> = HashSet<K, AddressState>;

/// Builds [`AddressHasher`]s with the process's key.
#[derive(Clone, Copy, Debug)]
pub struct AddressState {
    key: u64,
}

impl Default for AddressState {
    fn default() -> Self {
        static KEY: OnceLock<u64> = OnceLock::new();
        Self {
            key: *KEY.get_or_init(|| RandomState::new().hash_one(0_u64)),
        }
    }
}

impl BuildHasher for AddressState {
    type Hasher = AddressHasher;

    fn build_hasher(&self) -> AddressHasher {
        AddressHasher { state: self.key }
    }
}

/// Multiplies and folds 64 bits at a time.
#[derive(Clone, Copy, Debug)]
pub struct AddressHasher {
    state: u64,
}

impl AddressHasher {
    fn mix(&mut self, word: u64) {
        /// 2^64 divided by the golden ratio, odd: Knuth's multiplicative hashing.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let (low, high) = (self.state ^ word).carrying_mul(GOLDEN, 0);
        self.state = low ^ high;
    }
}

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.mix(u64::from(byte));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }
}
