//! What the host does to a running guest: one thread for each actor of the plan.
//!
//! ```text
//! mod        the threads, what they share, checks of the plan
//! reclaim    discards, protects and moves guest memory in the host
//! dirty_log  the loop of live migration
//! contents   hashes of guest memory, to verify the dirty log
//! memslots   deletes, adds and moves memslots
//! ```
//!
//! An actor starts when the guest begins its work, and restores everything when the last vCPU has
//! ended. Its operations run concurrently with the guest; between two of them the world may be
//! stopped.
//!
//! Unlike the vCPUs' threads these have no filter of their own: they must map memory, and no data
//! of the guest reaches them. Like the whole process they have no capabilities.

mod contents;
mod dirty_log;
mod memslots;
mod reclaim;

#[cfg(test)]
mod kvm_tests;

use std::fs::File;
use std::sync::Mutex;
use std::thread::{self, Scope};
use std::time::Duration;

use abi::{FrameRange, Gpa, PAGE_BYTES};
use kvm_ioctls::VmFd;
use workloads::{Actor, Plan};

use super::error::VmmError;
use super::hooks::HostAct;
use super::lifecycle::StopOnPanic;
use super::lock::lock;
use super::memory::Ram;
use super::shared::Shared;
use super::slots::Slots;

/// What the actors need.
pub(super) struct Context<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) vm: &'a VmFd,
    pub(super) slots: &'a Slots,
    pub(super) plan: &'a Plan,
    pub(super) manual_dirty_log: bool,
    pub(super) pagemap: Option<&'a File>,
    /// Passes that the actors have finished, all together.
    pub(super) passes: Mutex<u64>,
}

/// Starts the actors' threads.
pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, context: &'scope Context<'_>) {
    for actor in &context.plan.host.actors {
        let started = thread::Builder::new()
            .name(name(actor).to_owned())
            .spawn_scoped(scope, move || {
                let _stop_on_panic = StopOnPanic(&context.shared.lifecycle);
                if !context.shared.lifecycle.wait_for_work() {
                    return;
                }
                if let Err(error) = run(context, actor) {
                    context.shared.lifecycle.fail(error);
                }
            });
        if let Err(error) = started {
            context.shared.lifecycle.fail(VmmError::Thread(error));
        }
    }
}

/// The thread's name: at most 15 bytes.
fn name(actor: &Actor) -> &'static str {
    match actor {
        Actor::Reclaim { .. } => "actor-reclaim",
        Actor::DirtyLog { .. } => "actor-dirty-log",
        Actor::Memslots { .. } => "actor-memslots",
    }
}

fn run(context: &Context<'_>, actor: &Actor) -> Result<(), VmmError> {
    match *actor {
        Actor::Reclaim {
            discard,
            disturb,
            chunk_frames,
            every,
        } => reclaim::run(context, [discard, disturb], chunk_frames, every),
        Actor::DirtyLog {
            slot,
            toggle,
            every,
            ..
        } => dirty_log::run(context, slot, toggle, every),
        Actor::Memslots {
            slot,
            window,
            every,
        } => memslots::run(context, slot, window, every),
    }
}

impl Context<'_> {
    /// Waits for `time`; true if the guest still runs then.
    fn runs_after(&self, time: Duration) -> bool {
        self.shared.lifecycle.runs_after(time)
    }

    /// Runs one operation concurrently with the guest, and reports it as `act`.
    fn operate<T>(
        &self,
        act: HostAct,
        work: impl FnOnce() -> Result<T, VmmError>,
    ) -> Result<T, VmmError> {
        let inside = self.shared.world.enter();
        let result = work()?;
        if self.announce(act) {
            inside.stop(|| self.shared.report_acts())?;
        }
        Ok(result)
    }

    /// As [`Context::operate`], but with the guest stopped.
    fn operate_stopped<T>(
        &self,
        work: impl FnOnce() -> Result<T, VmmError>,
    ) -> Result<T, VmmError> {
        self.shared.world.stop(|| {
            self.shared.report_acts()?;
            let result = work()?;
            self.shared.report_acts()?;
            Ok(result)
        })
    }

    /// Queues an act for the hooks; false if they do not want it.
    fn announce(&self, act: HostAct) -> bool {
        let wanted = self.shared.hooks.wants_acts();
        if wanted {
            lock(&self.shared.acts).push(act);
        }
        wanted
    }

    /// Counts a finished pass, which the guest can see.
    fn passed(&self) -> Result<(), VmmError> {
        let mut passes = lock(&self.passes);
        *passes += 1;
        self.shared.ram.set_passes(*passes)
    }
}

/// Whether the actors of a plan can work without damage to the VMM itself.
pub(super) fn check(plan: &Plan, ram: &Ram) -> Result<(), VmmError> {
    let work = plan.boot_info.work;
    let mut taken = Vec::new();
    for actor in &plan.host.actors {
        match *actor {
            Actor::Reclaim {
                discard,
                disturb,
                chunk_frames,
                ..
            } => {
                if chunk_frames == 0 || discard.frames.max(disturb.frames) == 0 {
                    return Err(VmmError::plan("reclaim has nothing to reclaim".to_owned()));
                }
                for range in [discard, disturb] {
                    check_reclaimed(range, work, ram)?;
                }
            }
            Actor::DirtyLog { slot, .. } => taken.push((slot, slot_range(plan, slot)?)),
            Actor::Memslots { slot, .. } => {
                let range = slot_range(plan, slot)?;
                // A guest cannot run without its page tables and code.
                if range.start < work.start || range.end() > work.end() {
                    return Err(VmmError::plan(format!(
                        "slot {slot} is to be moved, but contains more than work frames"
                    )));
                }
                taken.push((slot, range));
            }
        }
    }
    taken.sort_unstable_by_key(|(slot, _)| *slot);
    match taken.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        // Each sets the slot's flags and place without regard to the other.
        Some([(slot, _), ..]) => Err(VmmError::plan(format!("two actors change slot {slot}"))),
        _ => Ok(()),
    }
}

/// Only work frames may be away: the VMM itself never reads them.
fn check_reclaimed(range: FrameRange, work: FrameRange, ram: &Ram) -> Result<(), VmmError> {
    if range.frames == 0 {
        return Ok(());
    }
    let aligned = range.start.0.is_multiple_of(PAGE_BYTES);
    let inside = range.start >= work.start && range.end() <= work.end();
    if aligned && inside && ram.slot_of(range).is_some() {
        return Ok(());
    }
    Err(VmmError::plan(format!(
        "{} frames at {} are to be reclaimed, but are not work frames of one memslot",
        range.frames, range.start
    )))
}

/// The frames of a memslot at its original address.
fn slot_range(plan: &Plan, id: u16) -> Result<FrameRange, VmmError> {
    let slot = plan.host.slots.iter().find(|slot| slot.id == id);
    slot.map(|slot| FrameRange {
        start: slot.gpa,
        frames: slot.bytes / PAGE_BYTES,
    })
    .ok_or_else(|| VmmError::plan(format!("an actor changes slot {id}, which does not exist")))
}

/// Opens the pagemap for the check of the dirty log, while this process has the right.
pub(super) fn pagemap(plan: &Plan) -> Result<Option<File>, VmmError> {
    let needs = |actor: &Actor| matches!(actor, Actor::DirtyLog { .. });
    if !plan.host.actors.iter().any(needs) {
        return Ok(None);
    }
    File::open("/proc/self/pagemap")
        .map(Some)
        .map_err(VmmError::Pagemap)
}

/// The error of an actor's call.
fn failed(call: &'static str, range: FrameRange) -> impl Fn(rustix::io::Errno) -> VmmError {
    move |error| VmmError::Actor {
        call,
        gpa: range.start.0,
        frames: range.frames,
        source: error.into(),
    }
}

/// Splits a range into chunks of `chunk_frames`; the last may be shorter.
fn chunks(range: FrameRange, chunk_frames: u64) -> Vec<FrameRange> {
    let starts = (0..range.frames).step_by(usize::try_from(chunk_frames).unwrap_or(usize::MAX));
    let chunk = |first: u64| FrameRange {
        start: Gpa(range.start.0 + first * PAGE_BYTES),
        frames: chunk_frames.min(range.frames - first),
    };
    starts.map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_a_range_once() {
        let range = FrameRange {
            start: Gpa(0x40_0000),
            frames: 10,
        };
        let chunks = chunks(range, 4);
        let frames: Vec<_> = chunks.iter().map(|chunk| chunk.frames).collect();
        assert_eq!(frames, [4, 4, 2]);
        assert_eq!(chunks.last().unwrap().end(), range.end());
        assert!(chunks.windows(2).all(|pair| pair[0].end() == pair[1].start));
    }

    #[test]
    fn plans_that_would_damage_the_run_are_refused() {
        let plan = workloads::find("linear").unwrap().plan(&[]).unwrap();
        let ram = Ram::new(&plan.host.slots).unwrap();
        let work = plan.boot_info.work;
        let every = Duration::from_millis(1);
        let reclaim = |discard: FrameRange| Actor::Reclaim {
            discard,
            disturb: work,
            chunk_frames: 4,
            every,
        };
        let memslots = Actor::Memslots {
            slot: 0,
            window: Gpa(1 << 30),
            every,
        };
        let dirty = |slot| Actor::DirtyLog {
            slot,
            clear: false,
            toggle: false,
            every,
        };
        let low = FrameRange {
            start: Gpa(0),
            frames: 8,
        };
        for (actors, fine) in [
            (vec![reclaim(work), dirty(0)], true),
            (vec![reclaim(low)], false),
            (vec![memslots], false),
            (vec![dirty(1)], false),
            (vec![dirty(0), dirty(0)], false),
        ] {
            let mut plan = plan.clone();
            plan.host.actors = actors;
            assert_eq!(check(&plan, &ram).is_ok(), fine, "{:?}", plan.host.actors);
        }
    }
}
