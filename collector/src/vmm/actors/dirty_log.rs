//! The loop of live migration: which frames has the guest written since the last pass?

use std::fs::File;
use std::time::Duration;

use abi::layout::HOST_PAGE;
use abi::{FrameRange, Gpa, PAGE_BYTES, to_usize};
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVMIO, kvm_clear_dirty_log};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;
use vmm_sys_util::ioctl_iowr_nr;
use workloads::Actor;

use super::super::error::VmmError;
use super::super::hooks::{HostAct, HostActKind};
use super::super::slots::Placement;
use super::contents::contents;
use super::{Context, slot_range};

ioctl_iowr_nr!(KVM_CLEAR_DIRTY_LOG, KVMIO, 0xc0, kvm_clear_dirty_log);

/// With `toggle`, logging is switched off and on again after this many passes.
const PASSES_ON: u64 = 8;
/// Frames in a word of KVM's bitmap.
const WORD_FRAMES: u64 = 64;

/// Reads the log once in each pass.
pub(super) fn run(
    context: &Context<'_>,
    slot: u16,
    toggle: bool,
    every: Duration,
) -> Result<(), VmmError> {
    let mut log = Log::new(context, slot)?;
    log.switch_on()?;
    let mut passes = 0;
    while context.runs_after(every) {
        let inside = context.shared.world.enter();
        if log.take()? {
            inside.stop(|| context.shared.report_acts())?;
        }
        drop(inside);
        context.passed()?;
        passes += 1;
        if toggle && passes % PASSES_ON == 0 {
            log.switch_off()?;
            log.switch_on()?;
        }
    }
    log.switch_off()
}

/// KVM's dirty log of one memslot, and its verification.
///
/// A frame whose content changes while logging is on was written, so the log must contain it:
/// contents are compared between a stop at the start and one at the end. Frames that the host
/// itself changes, which KVM cannot know, are skipped.
struct Log<'a> {
    context: &'a Context<'a>,
    pagemap: &'a File,
    placement: Placement,
    range: FrameRange,
    /// One bit a frame: reported by the log since logging began.
    logged: Vec<u64>,
    /// Hashes of the frames when it began.
    before: Vec<u64>,
}

impl<'a> Log<'a> {
    fn new(context: &'a Context<'a>, slot: u16) -> Result<Self, VmmError> {
        let range = slot_range(context.plan, slot)?;
        let found = context.shared.ram.slots().find(|(one, _)| one.id == slot);
        let (Some((_, hva)), Some(pagemap)) = (found, context.pagemap) else {
            return Err(VmmError::plan(format!(
                "the dirty log of slot {slot} cannot be verified"
            )));
        };
        Ok(Self {
            context,
            pagemap,
            placement: Placement {
                id: slot,
                gpa: range.start,
                bytes: range.frames * PAGE_BYTES,
                hva,
            },
            range,
            logged: vec![0; to_usize(range.frames.div_ceil(WORD_FRAMES))],
            before: Vec::new(),
        })
    }

    fn switch_on(&mut self) -> Result<(), VmmError> {
        self.set_flags(KVM_MEM_LOG_DIRTY_PAGES, HostActKind::DirtyStarted)?;
        let context = self.context;
        context.operate_stopped(|| {
            self.take()?;
            self.logged.fill(0);
            self.before = self.contents()?;
            Ok(())
        })
    }

    fn switch_off(&mut self) -> Result<(), VmmError> {
        let context = self.context;
        context.operate_stopped(|| {
            self.take()?;
            self.check()
        })?;
        self.set_flags(0, HostActKind::DirtyStopped)
    }

    fn set_flags(&self, flags: u32, kind: HostActKind) -> Result<(), VmmError> {
        let Self {
            context, placement, ..
        } = *self;
        context.operate(self.act(kind, self.range), || {
            // SAFETY: guest memory, which the `Vmm` keeps as long as the VM.
            unsafe { context.slots.set(context.vm, placement, flags) }
        })
    }

    fn act(&self, kind: HostActKind, range: FrameRange) -> HostAct {
        HostAct {
            kind,
            slot: self.placement.id,
            range,
        }
    }

    /// Reads and clears the dirty bits, so that the frames are write-protected again; true if an
    /// act was queued for the hooks.
    fn take(&mut self) -> Result<bool, VmmError> {
        let bytes = to_usize(self.placement.bytes);
        let dirty = self
            .context
            .vm
            .get_dirty_log(self.placement.id.into(), bytes);
        let mut dirty = dirty.map_err(|error| self.failed("KVM_GET_DIRTY_LOG", error.into()))?;
        let Some(range) = hull(self.range, &dirty) else {
            return Ok(false);
        };
        if self.context.manual_dirty_log {
            self.clear(&mut dirty)?;
        }
        for (logged, dirty) in self.logged.iter_mut().zip(&dirty) {
            *logged |= dirty;
        }
        Ok(self
            .context
            .announce(self.act(HostActKind::DirtyCleared, range)))
    }

    fn clear(&self, dirty: &mut [u64]) -> Result<(), VmmError> {
        let num_pages = u32::try_from(self.range.frames)
            .map_err(|_| VmmError::plan(format!("slot {} is too large", self.placement.id)))?;
        let mut clear = kvm_clear_dirty_log {
            slot: self.placement.id.into(),
            num_pages,
            ..kvm_clear_dirty_log::default()
        };
        clear.__bindgen_anon_1.dirty_bitmap = dirty.as_mut_ptr().cast();
        // SAFETY: the bitmap has a bit for each frame, and KVM only reads it.
        if unsafe { ioctl_with_mut_ref(self.context.vm, KVM_CLEAR_DIRTY_LOG(), &mut clear) } < 0 {
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
        contents(self.pagemap, self.context.shared.ram, self.range, |gpa| {
            self.changed_by_host(gpa)
        })
    }

    /// Whether the VMM writes the frame, or an actor discards or moves it.
    fn changed_by_host(&self, gpa: Gpa) -> bool {
        let in_range = |range: FrameRange| (range.start..range.end()).contains(&gpa);
        gpa == HOST_PAGE
            || self
                .context
                .plan
                .host
                .actors
                .iter()
                .any(|actor| match actor {
                    Actor::Reclaim {
                        discard, disturb, ..
                    } => in_range(*discard) || in_range(*disturb),
                    Actor::DirtyLog { .. } | Actor::Memslots { .. } => false,
                })
    }

    /// Every changed frame must be in the log.
    fn check(&self) -> Result<(), VmmError> {
        let after = self.contents()?;
        let changed: Vec<u64> = (0..self.range.frames)
            .filter(|&frame| self.before[to_usize(frame)] != after[to_usize(frame)])
            .collect();
        let missed: Vec<u64> = changed
            .iter()
            .copied()
            .filter(|frame| !is_set(&self.logged, *frame))
            .collect();
        let Some(&first) = missed.first() else {
            return Ok(());
        };
        Err(VmmError::DirtyLogMissed {
            slot: self.placement.id,
            gpa: self.range.start.add_frames(first).0,
            missed: missed.len() as u64,
            changed: changed.len() as u64,
        })
    }
}

fn is_set(bitmap: &[u64], frame: u64) -> bool {
    let word = bitmap.get(to_usize(frame / WORD_FRAMES));
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
