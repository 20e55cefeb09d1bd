//! Memory for the workloads' books, in the image.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Words in all: 384 KiB.
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

/// `count` words, all zero, for good.
///
/// # Panics
/// When there is no room: the catalogue's ranges keep below it.
pub fn take(count: u64) -> &'static mut [u64] {
    let count = count as usize;
    let start = ARENA.used.fetch_add(count, Ordering::Relaxed);
    assert!(start + count <= WORDS, "no room for {count} more words");
    let words = ARENA.words.get().cast::<u64>();
    // SAFETY: in bounds, and nobody else gets these words: the counter only grows.
    unsafe { core::slice::from_raw_parts_mut(words.add(start), count) }
}

/// As [`take`], for several CPUs.
pub fn take_shared(count: u64) -> &'static [AtomicU64] {
    let words = take(count);
    let first = words.as_mut_ptr().cast::<AtomicU64>();
    // SAFETY: of the same size and alignment, and ours for good.
    unsafe { core::slice::from_raw_parts(first, words.len()) }
}
