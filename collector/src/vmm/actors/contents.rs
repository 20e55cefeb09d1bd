//! Hashes of guest memory, to compare its contents.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::FileExt;

use abi::{FrameRange, Gpa, PAGE_BYTES, to_usize};

use super::super::error::VmmError;
use super::super::memory::Ram;

/// A page is in memory, or in swap (`Documentation/admin-guide/mm/pagemap.rst`).
const PRESENT_OR_SWAPPED: u64 = 0b11 << 62;
/// Entries of the page map read at once.
const BATCH: u64 = 4096;

/// A hash of each frame of `range`, in order.
///
/// A page that the host has not allocated yet counts as zero and is not read: that would allocate
/// it and change how the guest's next store to it proceeds. The guest must be stopped.
///
/// # Errors
/// [`VmmError::Pagemap`], [`VmmError::GuestMemory`].
pub(super) fn contents(
    pagemap: &File,
    ram: &Ram,
    range: FrameRange,
    skip: impl Fn(Gpa) -> bool,
) -> Result<Vec<u64>, VmmError> {
    let mut page = vec![0; to_usize(PAGE_BYTES)];
    let zero = hash(&page);
    let mut hashes = vec![zero; to_usize(range.frames)];
    let Some(start) = ram.pointer(range) else {
        return Err(VmmError::plan(format!("{} is in no memslot", range.start)));
    };
    let first = start.addr() as u64 / PAGE_BYTES;
    for batch in (0..range.frames).step_by(to_usize(BATCH)) {
        let frames = BATCH.min(range.frames - batch);
        let mut entries = vec![0; to_usize(frames * 8)];
        pagemap
            .read_exact_at(&mut entries, (first + batch) * 8)
            .map_err(VmmError::Pagemap)?;
        let (entries, _) = entries.as_chunks::<8>();
        for (frame, entry) in (batch..).zip(entries) {
            let gpa = range.start.add_frames(frame);
            if u64::from_ne_bytes(*entry) & PRESENT_OR_SWAPPED != 0 && !skip(gpa) {
                ram.read(gpa, &mut page)?;
                hashes[to_usize(frame)] = hash(&page);
            }
        }
    }
    Ok(hashes)
}

fn hash(page: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(page);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use workloads::{Backing, Slot};

    #[test]
    fn changes_are_seen_and_no_page_is_allocated() {
        let range = FrameRange {
            start: Gpa(0),
            frames: 5000,
        };
        let slot = Slot {
            id: 0,
            gpa: Gpa(0),
            bytes: range.frames * PAGE_BYTES,
            backing: Backing::Small,
        };
        let ram = Ram::new(&[slot]).unwrap();
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let read = || contents(&pagemap, &ram, range, |gpa| gpa == Gpa(0x3000)).unwrap();
        let before = read();
        // A page of zeroes equals one that is not allocated; the fourth page is skipped.
        ram.write(Gpa(0x2000), &[0]).unwrap();
        ram.write(Gpa(0x3000), &[1]).unwrap();
        ram.write(Gpa(4999 * PAGE_BYTES + 4095), &[1]).unwrap();
        let after = read();
        let changed: Vec<_> = (0..5000).filter(|&at| before[at] != after[at]).collect();
        assert_eq!(changed, [4999]);
        let mut entry = [0; 8];
        let page = ram.pointer(range).unwrap().addr() as u64 / PAGE_BYTES;
        pagemap.read_exact_at(&mut entry, page * 8).unwrap();
        assert_eq!(u64::from_ne_bytes(entry) & PRESENT_OR_SWAPPED, 0);
    }
}
