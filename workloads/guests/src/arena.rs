//! Memory in the image for the workloads' expected values.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Number of words: 384 KiB.
const WORDS: usize = 48 << 10;

struct Arena {
    words: UnsafeCell<[u64; WORDS]>,
    used: AtomicUsize,
}

// SAFETY: each word is handed out once.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena {
    words: UnsafeCell::new([0; WORDS]),
    used: AtomicUsize::new(0),
};

/// Allocates `count` words, all zero, for ever.
///
/// # Panics
/// If there is no space left, which the ranges of the catalogue's parameters prevent.
pub fn take(count: u64) -> &'static mut [u64] {
    let count = count as usize;
    let start = ARENA.used.fetch_add(count, Ordering::Relaxed);
    assert!(start + count <= WORDS, "no space for {count} more words");
    let words = ARENA.words.get().cast::<u64>();
    // SAFETY: in bounds, and each word is allocated once: the counter only grows.
    unsafe { core::slice::from_raw_parts_mut(words.add(start), count) }
}

/// As [`take`], for several CPUs.
pub fn take_shared(count: u64) -> &'static [AtomicU64] {
    let words = take(count);
    let first = words.as_mut_ptr().cast::<AtomicU64>();
    // SAFETY: of the same size and alignment, and allocated for ever.
    unsafe { core::slice::from_raw_parts(first, words.len()) }
}
