//! Memslots under the guest: deleted and added, moved, and a spare one beside.

use std::thread;
use std::time::Duration;

use abi::{FrameRange, Gpa, PAGE_BYTES};

use super::super::VmmError;
use super::super::hooks::{HostAct, HostActKind};
use super::super::mapping::Mapping;
use super::super::slots::Place;
use super::Stage;

/// How long the slot is not where the guest expects it: long enough to be met.
const HOLD: Duration = Duration::from_micros(500);
/// Size of the spare slot, at most.
const SPARE_BYTES: u64 = 16 * PAGE_BYTES;

/// One change and back a pass.
pub(super) fn run(
    stage: &Stage<'_>,
    slot: u16,
    window: Gpa,
    every: Duration,
) -> Result<(), VmmError> {
    let found = stage.scene.ram.slots().find(|(one, _)| one.id == slot);
    let (at_home, hva) = found.ok_or_else(|| VmmError::plan(format!("slot {slot} is missing")))?;
    let home = Place {
        id: slot,
        gpa: at_home.gpa,
        bytes: at_home.bytes,
        hva,
    };
    let bytes = home.bytes.min(SPARE_BYTES);
    // Outlives its memslot: on an error, which ends the run, it stays for the VM's lifetime.
    let memory = Mapping::new(bytes as usize, window.0)
        .map_err(|source| VmmError::ReserveMemory { bytes, source })?;
    let spare = Place {
        id: unused(stage),
        gpa: window,
        bytes,
        hva: memory.hva(),
    };
    let mut pass = 0_u64;
    while stage.runs_after(every) {
        match pass % 3 {
            0 => delete_and_add(stage, home)?,
            1 => move_and_back(stage, home, window)?,
            _ => {
                let inside = stage.scene.world.enter();
                // SAFETY: `memory` is kept until the slot is deleted.
                unsafe { stage.slots.set(stage.vm, spare, 0) }?;
                drop(inside);
                thread::sleep(HOLD);
                if let Err(error) = delete(stage, spare) {
                    std::mem::forget(memory);
                    return Err(error);
                }
            }
        }
        pass += 1;
        stage.passed()?;
    }
    Ok(())
}

/// A number that no slot of the plan has.
fn unused(stage: &Stage<'_>) -> u16 {
    let used = stage.plan.host.slots.iter().map(|slot| slot.id).max();
    used.map_or(0, |last| last + 1)
}

fn delete_and_add(stage: &Stage<'_>, home: Place) -> Result<(), VmmError> {
    delete(stage, home)?;
    thread::sleep(HOLD);
    // An empty place has no shadow entries that could change.
    let _inside = stage.scene.world.enter();
    // SAFETY: guest memory, which the `Vmm` keeps as long as the VM.
    unsafe { stage.slots.set(stage.vm, home, 0) }
}

fn move_and_back(stage: &Stage<'_>, home: Place, window: Gpa) -> Result<(), VmmError> {
    let away = Place {
        gpa: window,
        ..home
    };
    for (from, to) in [(home, away), (away, home)] {
        stage.operate(flushed(from), || {
            // SAFETY: as in `delete_and_add`.
            unsafe { stage.slots.set(stage.vm, to, 0) }
        })?;
        if to == away {
            thread::sleep(HOLD);
        }
    }
    Ok(())
}

fn delete(stage: &Stage<'_>, place: Place) -> Result<(), VmmError> {
    stage.operate(flushed(place), || stage.slots.delete(stage.vm, place))
}

fn flushed(place: Place) -> HostAct {
    HostAct {
        kind: HostActKind::SlotFlushed,
        slot: place.id,
        range: FrameRange {
            start: place.gpa,
            frames: place.bytes / PAGE_BYTES,
        },
    }
}
