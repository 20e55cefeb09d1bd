//! Settings of the C library's allocator.

use libc::{
    M_ARENA_MAX, M_MMAP_THRESHOLD, M_TOP_PAD, M_TRIM_THRESHOLD, MADV_HUGEPAGE, c_int, c_void,
};

/// Address space that the heap grows by at a time, bytes; memory only once it is touched.
const STEP: c_int = 512 << 20;
/// Larger blocks come from the kernel instead of the heap, bytes.
const LARGEST: c_int = 32 << 20;
/// Size of a huge page.
const HUGE: usize = 2 << 20;

/// Keeps memory that was used once, and asks for huge pages. The columns of a segment take megabytes
/// for a short time. If they were returned to the kernel each time, each page of them would cost a
/// page fault, in a virtual machine up to half of all time. Without effect, this only costs speed.
pub fn keep_memory() {
    for (what, value) in [
        (M_ARENA_MAX, 1),
        (M_MMAP_THRESHOLD, LARGEST),
        (M_TRIM_THRESHOLD, c_int::MAX),
        (M_TOP_PAD, STEP),
    ] {
        // SAFETY: takes two numbers and stores them.
        unsafe { libc::mallopt(what, value) };
    }
    // SAFETY: the block is freed once, and `sbrk(0)` moves nothing.
    let (grown, end) = unsafe {
        let block = libc::malloc(HUGE);
        let end = libc::sbrk(0);
        libc::free(block);
        (block as usize, end as usize)
    };
    let start = grown.next_multiple_of(HUGE);
    if grown != 0 && start < end {
        // SAFETY: advice, which changes no contents; a range outside the heap is refused.
        unsafe { libc::madvise(start as *mut c_void, end - start, MADV_HUGEPAGE) };
    }
}
