//! Live migration's loop: which frames has the guest written since the last time?

use std::fs::File;
use std::time::Duration;

use abi::layout::HOST_PAGE;
use abi::{FrameRange, Gpa, PAGE_BYTES};
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVMIO, kvm_clear_dirty_log};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;
use workloads::Actor;

use super::super::VmmError;
use super::super::hooks::{HostAct, HostActKind};
use super::super::slots::Place;
use super::contents::contents;
use super::{Stage, slot_range};

ioctl_iowr_nr!(KVM_CLEAR_DIRTY_LOG, KVMIO, 0xc0, kvm_clear_dirty_log);

/// With `toggle`, off and on again after as many passes.
const PASSES_ON: u64 = 8;
/// Frames of a word of KVM's bitmap.
const WORD_FRAMES: u64 = 64;

/// One look at the log a pass.
pub(super) fn run(
    stage: &Stage<'_>,
    slot: u16,
    toggle: bool,
    every: Duration,
) -> Result<(), VmmError> {
    let mut log = Log::new(stage, slot)?;
    log.switch_on()?;
    let mut passes = 0;
    while stage.runs_after(every) {
        let inside = stage.scene.world.enter();
        if log.take()? {
            inside.stop(|| stage.scene.tell_acts())?;
        }
        drop(inside);
        stage.passed()?;
        passes += 1;
        if toggle && passes % PASSES_ON == 0 {
            log.switch_off()?;
            log.switch_on()?;
        }
    }
    log.switch_off()
}

/// KVM's dirty log of one memslot, and what it must hold.
///
/// While logging is on, a frame whose content changes was written, so KVM must have said so:
/// frames are compared between a stop at the start and one at the end. Frames that the host
/// itself changes, behind KVM's back, are left out.
struct Log<'a> {
    stage: &'a Stage<'a>,
    pagemap: &'a File,
    place: Place,
    range: FrameRange,
    /// What the log has said since logging began, a bit a frame.
    said: Vec<u64>,
    /// What the frames held when it began.
    before: Vec<u64>,
}

impl<'a> Log<'a> {
    fn new(stage: &'a Stage<'a>, slot: u16) -> Result<Self, VmmError> {
        let range = slot_range(stage.plan, slot)?;
        let found = stage.scene.ram.slots().find(|(one, _)| one.id == slot);
        let (Some((_, hva)), Some(pagemap)) = (found, stage.pagemap) else {
            return Err(VmmError::plan(format!("slot {slot} cannot be checked")));
        };
        Ok(Self {
            stage,
            pagemap,
            place: Place {
                id: slot,
                gpa: range.start,
                bytes: range.frames * PAGE_BYTES,
                hva,
            },
            range,
            said: vec![0; range.frames.div_ceil(WORD_FRAMES) as usize],
            before: Vec::new(),
        })
    }

    fn switch_on(&mut self) -> Result<(), VmmError> {
        self.set_flags(KVM_MEM_LOG_DIRTY_PAGES, HostActKind::DirtyStarted)?;
        let stage = self.stage;
        stage.operate_stopped(|| {
            self.take()?;
            self.said.fill(0);
            self.before = self.contents()?;
            Ok(())
        })
    }

    fn switch_off(&mut self) -> Result<(), VmmError> {
        let stage = self.stage;
        stage.operate_stopped(|| {
            self.take()?;
            self.check()
        })?;
        self.set_flags(0, HostActKind::DirtyStopped)
    }

    fn set_flags(&self, flags: u32, kind: HostActKind) -> Result<(), VmmError> {
        let Self { stage, place, .. } = *self;
        stage.operate(self.act(kind, self.range), || {
            // SAFETY: guest memory, which the `Vmm` keeps as long as the VM.
            unsafe { stage.slots.set(stage.vm, place, flags) }
        })
    }

    fn act(&self, kind: HostActKind, range: FrameRange) -> HostAct {
        HostAct {
            kind,
            slot: self.place.id,
            range,
        }
    }

    /// Takes the dirty bits, so that the frames are write-protected again; whether somebody must
    /// be told.
    fn take(&mut self) -> Result<bool, VmmError> {
        let bytes = self.place.bytes as usize;
        let dirty = self.stage.vm.get_dirty_log(self.place.id.into(), bytes);
        let mut dirty = dirty.map_err(|error| self.failed("KVM_GET_DIRTY_LOG", error.into()))?;
        let Some(range) = hull(self.range, &dirty) else {
            return Ok(false);
        };
        if self.stage.manual_dirty_log {
            self.clear(&mut dirty)?;
        }
        for (said, dirty) in self.said.iter_mut().zip(&dirty) {
            *said |= dirty;
        }
        Ok(self
            .stage
            .announce(self.act(HostActKind::DirtyCleared, range)))
    }

    fn clear(&self, dirty: &mut [u64]) -> Result<(), VmmError> {
        let mut clear = kvm_clear_dirty_log {
            slot: self.place.id.into(),
            num_pages: self.range.frames as u32,
            ..kvm_clear_dirty_log::default()
        };
        clear.__bindgen_anon_1.dirty_bitmap = dirty.as_mut_ptr().cast();
        // SAFETY: the bitmap has a bit for each frame, and KVM only reads it.
        if unsafe { ioctl_with_mut_ref(self.stage.vm, KVM_CLEAR_DIRTY_LOG(), &mut clear) } < 0 {
            let error = std::io::Error::last_os_error();
            return Err(self.failed("KVM_CLEAR_DIRTY_LOG", error));
        }
        Ok(())
    }

    fn failed(&self, call: &'static str, source: std::io::Error) -> VmmError {
        VmmError::Actor {
            call,
            gpa: self.range.start.0,
            frames: self.range.frames,
            source,
        }
    }

    fn contents(&self) -> Result<Vec<u64>, VmmError> {
        contents(self.pagemap, self.stage.scene.ram, self.range, |gpa| {
            self.changed_by_host(gpa)
        })
    }

    /// Whether the VMM writes the frame, or an actor throws it away or has it elsewhere.
    fn changed_by_host(&self, gpa: Gpa) -> bool {
        let in_range = |range: FrameRange| (range.start..range.end()).contains(&gpa);
        gpa == HOST_PAGE
            || self.stage.plan.host.actors.iter().any(|actor| match actor {
                Actor::Reclaim {
                    discard, disturb, ..
                } => in_range(*discard) || in_range(*disturb),
                Actor::DirtyLog { .. } | Actor::Memslots { .. } => false,
            })
    }

    /// Every frame that changed must be in the log.
    fn check(&self) -> Result<(), VmmError> {
        let after = self.contents()?;
        // A frame may be there only now, and be skipped both times.
        let changed: Vec<u64> = (0..self.range.frames)
            .filter(|&frame| self.before[frame as usize] != after[frame as usize])
            .collect();
        let missed: Vec<u64> = changed
            .iter()
            .copied()
            .filter(|frame| !is_set(&self.said, *frame))
            .collect();
        let Some(&first) = missed.first() else {
            return Ok(());
        };
        Err(VmmError::DirtyLogMissed {
            slot: self.place.id,
            gpa: self.range.start.add_frames(first).0,
            missed: missed.len() as u64,
            changed: changed.len() as u64,
        })
    }
}

fn is_set(bitmap: &[u64], frame: u64) -> bool {
    let word = bitmap.get((frame / WORD_FRAMES) as usize);
    word.is_some_and(|word| word >> (frame % WORD_FRAMES) & 1 == 1)
}

/// From the first frame of `of` whose bit is set to the last.
fn hull(of: FrameRange, bitmap: &[u64]) -> Option<FrameRange> {
    let set = |frame: &u64| is_set(bitmap, *frame);
    let first = (0..of.frames).find(set)?;
    let last = (0..of.frames).rev().find(set)?;
    Some(FrameRange {
        start: of.start.add_frames(first),
        frames: last - first + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hull_reaches_from_the_first_bit_to_the_last() {
        let of = FrameRange {
            start: Gpa(0x10_0000),
            frames: 130,
        };
        let hull = |bitmap: [u64; 3]| {
            let range = hull(of, &bitmap)?;
            Some(((range.start.0 - of.start.0) / PAGE_BYTES, range.frames))
        };
        assert_eq!(hull([0; 3]), None);
        assert_eq!(hull([1 << 63, 0, 0]), Some((63, 1)));
        assert_eq!(hull([4, 0, 2]), Some((2, 128)));
        assert_eq!(hull([0, 0, 1 << 5]), None, "past the end");
    }
}
