//! What the C library's allocator is told.

use libc::{
    M_ARENA_MAX, M_MMAP_THRESHOLD, M_TOP_PAD, M_TRIM_THRESHOLD, MADV_HUGEPAGE, c_int, c_void,
};

/// Address space that the heap grows by at a time, bytes; memory only once it is touched.
const STEP: c_int = 512 << 20;
/// The most that the C library takes from the heap instead of from the kernel, bytes.
const LARGEST: c_int = 32 << 20;
/// Size of a huge page.
const HUGE: usize = 2 << 20;

/// Keeps memory that was used once, and asks for huge pages. Columns of a segment are megabytes that
/// come and go: given back and taken anew, each page of them costs a page fault, which in a virtual
/// machine is up to half of all time. Whatever of this has no effect makes the program slower, no
/// more.
pub fn keep_memory() {
    for (what, value) in [
        (M_ARENA_MAX, 1),
        (M_MMAP_THRESHOLD, LARGEST),
        (M_TRIM_THRESHOLD, c_int::MAX),
        (M_TOP_PAD, STEP),
    ] {
        // SAFETY: takes two numbers and keeps them.
        unsafe { libc::mallopt(what, value) };
    }
    // SAFETY: the block is given back as it was taken, and asking where the heap ends moves nothing.
    let (grown, end) = unsafe {
        let block = libc::malloc(HUGE);
        let end = libc::sbrk(0);
        libc::free(block);
        (block as usize, end as usize)
    };
    let start = grown.next_multiple_of(HUGE);
    if grown != 0 && start < end {
        // SAFETY: advice, which changes no contents; a range that is not the heap's is refused.
        unsafe { libc::madvise(start as *mut c_void, end - start, MADV_HUGEPAGE) };
    }
}
