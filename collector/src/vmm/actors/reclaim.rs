//! Discards, protects and moves guest memory in the host.

use std::thread;
use std::time::Duration;

use abi::{FrameRange, Gpa, PAGE_BYTES, to_usize};
use libc::c_void;
use rustix::mm::{Advice, MprotectFlags, MremapFlags, madvise, mprotect, mremap_fixed};

use super::super::error::VmmError;
use super::super::hooks::{HostAct, HostActKind};
use super::super::mapping::Mapping;
use super::{Context, chunks, failed};

/// Time for which memory is away or read-only: long enough for the guest to access it.
const HOLD: Duration = Duration::from_micros(300);

/// One chunk in each pass, of `discard` and `disturb` in turn.
pub(super) fn run(
    context: &Context<'_>,
    [discard, disturb]: [FrameRange; 2],
    chunk_frames: u64,
    every: Duration,
) -> Result<(), VmmError> {
    let discarded = chunks(discard, chunk_frames);
    let disturbed = chunks(disturb, chunk_frames);
    let scratch = Scratch::new(chunk_frames.min(disturb.frames))?;
    let (mut discards, mut disturbances) = (0, 0);
    while context.runs_after(every) {
        let discard_next = disturbed.is_empty() || discards <= disturbances;
        if !discarded.is_empty() && discard_next {
            Chunk::of(context, discarded[discards % discarded.len()])?.discard()?;
            discards += 1;
        } else {
            let chunk = Chunk::of(context, disturbed[disturbances % disturbed.len()])?;
            // Each chunk gets both in turn, whether the number of chunks is even or odd.
            let round = disturbances / disturbed.len();
            if (disturbances + round).is_multiple_of(2) {
                chunk.protect()?;
            } else {
                chunk.move_away(&scratch)?;
            }
            disturbances += 1;
        }
        context.passed()?;
    }
    Ok(())
}

/// The address of moved memory. It is never unmapped, so that no other mapping can take it.
struct Scratch(Mapping);

impl Scratch {
    fn new(frames: u64) -> Result<Self, VmmError> {
        let bytes = frames.max(1) * PAGE_BYTES;
        let mapping = Mapping::new(to_usize(bytes), 0)
            .map_err(|source| VmmError::ReserveMemory { bytes, source })?;
        Ok(Self(mapping))
    }
}

/// The 2 MiB blocks that contain `range`, within its memslot: Linux 6.18 invalidates a whole block
/// for a part of it, where one page table of the host maps the block (measured with its tracepoint
/// `kvm_unmap_hva_range`).
fn blocks_of(range: FrameRange, slot: u64, bytes: u64) -> FrameRange {
    const BLOCK: u64 = 512 * PAGE_BYTES;
    let start = (range.start.0 / BLOCK * BLOCK).max(slot);
    let end = range.end().0.next_multiple_of(BLOCK).min(slot + bytes);
    FrameRange {
        start: Gpa(start),
        frames: (end - start) / PAGE_BYTES,
    }
}

/// A chunk of a memslot, and its memory in the host.
struct Chunk<'a> {
    context: &'a Context<'a>,
    range: FrameRange,
    act: HostAct,
    at: *mut c_void,
    bytes: usize,
}

impl<'a> Chunk<'a> {
    fn of(context: &'a Context<'a>, range: FrameRange) -> Result<Self, VmmError> {
        let ram = context.shared.ram;
        let (Some(slot), Some(at)) = (ram.slot_of(range), ram.pointer(range)) else {
            return Err(VmmError::plan(format!("{} is in no memslot", range.start)));
        };
        Ok(Self {
            context,
            range,
            act: HostAct {
                kind: HostActKind::Unmapped,
                slot: slot.id,
                range: blocks_of(range, slot.gpa.0, slot.bytes),
            },
            at,
            bytes: to_usize(range.frames * PAGE_BYTES),
        })
    }

    /// Discards it: the frames read zero afterwards.
    fn discard(&self) -> Result<(), VmmError> {
        let Self { at, bytes, .. } = *self;
        self.context.operate(self.act, || {
            // SAFETY: work frames, as `check` has verified: this process has no reference to them.
            unsafe { madvise(at, bytes, Advice::LinuxDontNeed) }
                .map_err(failed("madvise(MADV_DONTNEED)", self.range))
        })
    }

    /// Makes it read-only for a while.
    fn protect(&self) -> Result<(), VmmError> {
        let _disturbance = self.context.shared.disturbances.begin();
        let read_write = MprotectFlags::READ | MprotectFlags::WRITE;
        let away = self.set_protection(MprotectFlags::READ);
        if away.is_ok() {
            thread::sleep(HOLD);
        }
        // Also after an error, so that the memory is back before it is accessed again.
        let back = self.set_protection(read_write);
        if back.is_err() {
            self.context.shared.disturbances.set_lost();
        }
        away.and(back)
    }

    fn set_protection(&self, flags: MprotectFlags) -> Result<(), VmmError> {
        self.context.operate(self.act, || self.mprotect(flags))
    }

    fn mprotect(&self, flags: MprotectFlags) -> Result<(), VmmError> {
        // SAFETY: as in `discard`; `Disturbances` keeps the VMM from serving an access meanwhile.
        unsafe { mprotect(self.at, self.bytes, flags) }.map_err(failed("mprotect", self.range))
    }

    /// Moves it to another address of this process for a while, so that KVM finds no memory.
    ///
    /// `MREMAP_DONTUNMAP` leaves an empty mapping, so that no other mapping of this process can
    /// take the address. The guest is stopped until that is `PROT_NONE`: it would find fresh pages
    /// in it. The way back replaces the empty mapping atomically, without a stop.
    fn move_away(&self, scratch: &Scratch) -> Result<(), VmmError> {
        let away = scratch.0.at(0);
        let _disturbance = self.context.shared.disturbances.begin();
        let mut moved = false;
        let gone = self.context.operate_stopped(|| {
            self.mremap(self.at, away)?;
            moved = true;
            self.mprotect(MprotectFlags::empty())?;
            self.context.announce(self.act);
            Ok(())
        });
        if !moved {
            return gone;
        }
        if gone.is_ok() {
            thread::sleep(HOLD);
        }
        let back = self
            .context
            .operate(self.act, || self.mremap(away, self.at));
        if back.is_err() {
            self.context.shared.disturbances.set_lost();
        }
        gone.and(back)
    }

    fn mremap(&self, from: *mut c_void, to: *mut c_void) -> Result<(), VmmError> {
        let flags = MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP;
        // SAFETY: as in `mprotect`; one of the two is the scratch memory, which nobody else uses.
        unsafe { mremap_fixed(from, self.bytes, self.bytes, flags, to) }
            .map(|_| ())
            .map_err(failed("mremap", self.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut_at_the_memslot() {
        let range = |start, frames| FrameRange {
            start: Gpa(start),
            frames,
        };
        let (slot, bytes) = (0x40_0000, 0x30_0000);
        assert_eq!(
            blocks_of(range(0x42_0000, 16), slot, bytes),
            range(0x40_0000, 512)
        );
        assert_eq!(
            blocks_of(range(0x68_0000, 16), slot, bytes),
            range(0x60_0000, 256)
        );
        assert_eq!(
            blocks_of(range(0x5f_f000, 2), slot, bytes),
            range(0x40_0000, 768)
        );
        assert_eq!(
            blocks_of(range(0x42_0000, 16), 0x41_0000, 0x5_0000),
            range(0x41_0000, 80)
        );
    }
}
