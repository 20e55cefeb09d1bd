//! Guest memory taken back by the host: discarded, protected, moved.

use std::thread;
use std::time::Duration;

use abi::{FrameRange, Gpa, PAGE_BYTES};
use libc::c_void;
use rustix::mm::{Advice, MprotectFlags, MremapFlags, madvise, mprotect, mremap_fixed};

use super::super::VmmError;
use super::super::hooks::{HostAct, HostActKind};
use super::super::mapping::Mapping;
use super::{Stage, chunks, failed};

/// How long memory is away or read-only: long enough for a guest to meet it.
const HOLD: Duration = Duration::from_micros(300);

/// Goes over the chunks of `discard` and `disturb` in turn, one chunk a pass.
pub(super) fn run(
    stage: &Stage<'_>,
    [discard, disturb]: [FrameRange; 2],
    chunk_frames: u64,
    every: Duration,
) -> Result<(), VmmError> {
    let discarded = chunks(discard, chunk_frames);
    let disturbed = chunks(disturb, chunk_frames);
    let scratch = Scratch::new(chunk_frames.min(disturb.frames))?;
    let (mut discards, mut disturbances) = (0, 0);
    while stage.runs_after(every) {
        let discard_next = disturbed.is_empty() || discards <= disturbances;
        if !discarded.is_empty() && discard_next {
            Chunk::of(stage, discarded[discards % discarded.len()])?.discard()?;
            discards += 1;
        } else {
            let chunk = Chunk::of(stage, disturbed[disturbances % disturbed.len()])?;
            // Each chunk meets both in turn, whether their number is even or odd.
            let round = disturbances / disturbed.len();
            if (disturbances + round).is_multiple_of(2) {
                chunk.protect()?;
            } else {
                chunk.move_away(&scratch)?;
            }
            disturbances += 1;
        }
        stage.passed()?;
    }
    Ok(())
}

/// Where moved memory is meanwhile. It is never unmapped, so that nothing else can come there.
struct Scratch(Mapping);

impl Scratch {
    fn new(frames: u64) -> Result<Self, VmmError> {
        let bytes = frames.max(1) * PAGE_BYTES;
        let mapping = Mapping::new(bytes as usize, 0)
            .map_err(|source| VmmError::ReserveMemory { bytes, source })?;
        Ok(Self(mapping))
    }
}

/// The 2 MiB blocks that `range` touches, within its memslot: where one page table of the host's covers
/// them, Linux 6.18 invalidates all of them for a part (seen with its tracepoint `kvm_unmap_hva_range`).
fn around(range: FrameRange, slot: u64, bytes: u64) -> FrameRange {
    const BLOCK: u64 = 512 * PAGE_BYTES;
    let start = (range.start.0 / BLOCK * BLOCK).max(slot);
    let end = range.end().0.next_multiple_of(BLOCK).min(slot + bytes);
    FrameRange {
        start: Gpa(start),
        frames: (end - start) / PAGE_BYTES,
    }
}

/// Frames of one memslot, in the host.
struct Chunk<'a> {
    stage: &'a Stage<'a>,
    range: FrameRange,
    act: HostAct,
    at: *mut c_void,
    bytes: usize,
}

impl<'a> Chunk<'a> {
    fn of(stage: &'a Stage<'a>, range: FrameRange) -> Result<Self, VmmError> {
        let ram = stage.scene.ram;
        let (Some(slot), Some(at)) = (ram.slot_of(range), ram.pointer(range)) else {
            return Err(VmmError::plan(format!("{} is in no memslot", range.start)));
        };
        Ok(Self {
            stage,
            range,
            act: HostAct {
                kind: HostActKind::Unmapped,
                slot: slot.id,
                range: around(range, slot.gpa.0, slot.bytes),
            },
            at,
            bytes: (range.frames * PAGE_BYTES) as usize,
        })
    }

    /// The frames read zero afterwards.
    fn discard(&self) -> Result<(), VmmError> {
        let Self { at, bytes, .. } = *self;
        self.stage.operate(self.act, || {
            // SAFETY: work frames, of which this process holds no reference, as `check` found.
            unsafe { madvise(at, bytes, Advice::LinuxDontNeed) }
                .map_err(failed("madvise(MADV_DONTNEED)", self.range))
        })
    }

    /// Read-only for a while.
    fn protect(&self) -> Result<(), VmmError> {
        let _disturbance = self.stage.scene.calm.disturb();
        let read_write = MprotectFlags::READ | MprotectFlags::WRITE;
        let away = self.set_protection(MprotectFlags::READ);
        if away.is_ok() {
            thread::sleep(HOLD);
        }
        // Whatever became of it, the memory comes back before anybody may touch it.
        let back = self.set_protection(read_write);
        if back.is_err() {
            self.stage.scene.calm.never();
        }
        away.and(back)
    }

    fn set_protection(&self, flags: MprotectFlags) -> Result<(), VmmError> {
        self.stage.operate(self.act, || self.mprotect(flags))
    }

    fn mprotect(&self, flags: MprotectFlags) -> Result<(), VmmError> {
        // SAFETY: as in `discard`; the VMM serves no access meanwhile, as `Calm` sees to.
        unsafe { mprotect(self.at, self.bytes, flags) }.map_err(failed("mprotect", self.range))
    }

    /// Elsewhere in this process for a while: the guest finds nothing.
    ///
    /// With `MREMAP_DONTUNMAP` an empty mapping stays behind, so that no other mapping of this
    /// process can come there; until it is `PROT_NONE` a guest would find fresh pages in it,
    /// hence the stop. The way back replaces it at once, and the guest need not wait.
    fn move_away(&self, scratch: &Scratch) -> Result<(), VmmError> {
        let away = scratch.0.at(0);
        let _disturbance = self.stage.scene.calm.disturb();
        let mut moved = false;
        let gone = self.stage.operate_stopped(|| {
            self.mremap(self.at, away)?;
            moved = true;
            self.mprotect(MprotectFlags::empty())?;
            self.stage.announce(self.act);
            Ok(())
        });
        if !moved {
            return gone;
        }
        if gone.is_ok() {
            thread::sleep(HOLD);
        }
        let back = self.stage.operate(self.act, || self.mremap(away, self.at));
        if back.is_err() {
            self.stage.scene.calm.never();
        }
        gone.and(back)
    }

    fn mremap(&self, from: *mut c_void, to: *mut c_void) -> Result<(), VmmError> {
        let flags = MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP;
        // SAFETY: as in `mprotect`; one of the two is the scratch memory, of which nobody knows.
        unsafe { mremap_fixed(from, self.bytes, self.bytes, flags, to) }
            .map(|_| ())
            .map_err(failed("mremap", self.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_stays_in_the_memslot() {
        let range = |start, frames| FrameRange {
            start: Gpa(start),
            frames,
        };
        let (slot, bytes) = (0x40_0000, 0x30_0000);
        assert_eq!(
            around(range(0x42_0000, 16), slot, bytes),
            range(0x40_0000, 512)
        );
        assert_eq!(
            around(range(0x68_0000, 16), slot, bytes),
            range(0x60_0000, 256)
        );
        assert_eq!(
            around(range(0x5f_f000, 2), slot, bytes),
            range(0x40_0000, 768)
        );
        assert_eq!(
            around(range(0x42_0000, 16), 0x41_0000, 0x5_0000),
            range(0x41_0000, 80)
        );
    }
}
