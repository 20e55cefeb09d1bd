//! Changes memslots while the guest runs: deletes and adds one, moves it, adds and deletes a spare.

use std::thread;
use std::time::Duration;

use abi::{FrameRange, Gpa, PAGE_BYTES, to_usize};

use super::super::error::VmmError;
use super::super::hooks::{HostAct, HostActKind};
use super::super::mapping::Mapping;
use super::super::slots::Placement;
use super::Context;

/// Time for which the slot is away: long enough for the guest to access it.
const HOLD: Duration = Duration::from_micros(500);
/// Maximum size of the spare slot.
const SPARE_BYTES: u64 = 16 * PAGE_BYTES;

/// One change in each pass, which is undone before the next.
pub(super) fn run(
    context: &Context<'_>,
    slot: u16,
    window: Gpa,
    every: Duration,
) -> Result<(), VmmError> {
    let found = context.shared.ram.slots().find(|(one, _)| one.id == slot);
    let (original, hva) =
        found.ok_or_else(|| VmmError::plan(format!("slot {slot} does not exist")))?;
    let home = Placement {
        id: slot,
        gpa: original.gpa,
        bytes: original.bytes,
        hva,
    };
    let bytes = home.bytes.min(SPARE_BYTES);
    // Must outlive its memslot: on an error, which ends the run, it is leaked.
    let memory = Mapping::new(to_usize(bytes), window.0)
        .map_err(|source| VmmError::ReserveMemory { bytes, source })?;
    let spare = Placement {
        id: unused(context),
        gpa: window,
        bytes,
        hva: memory.hva(),
    };
    let mut pass = 0_u64;
    while context.runs_after(every) {
        match pass % 3 {
            0 => delete_and_add(context, home)?,
            1 => move_and_back(context, home, window)?,
            _ => {
                let inside = context.shared.world.enter();
                // SAFETY: `memory` stays mapped until the slot is deleted.
                unsafe { context.slots.set(context.vm, spare, 0) }?;
                drop(inside);
                thread::sleep(HOLD);
                if let Err(error) = delete(context, spare) {
                    std::mem::forget(memory);
                    return Err(error);
                }
            }
        }
        pass += 1;
        context.passed()?;
    }
    Ok(())
}

/// A slot number that the plan does not use.
fn unused(context: &Context<'_>) -> u16 {
    let used = context.plan.host.slots.iter().map(|slot| slot.id).max();
    used.map_or(0, |last| last + 1)
}

fn delete_and_add(context: &Context<'_>, home: Placement) -> Result<(), VmmError> {
    delete(context, home)?;
    thread::sleep(HOLD);
    // An address without a memslot has no shadow entries that could change.
    let _inside = context.shared.world.enter();
    // SAFETY: guest memory, which the `Vmm` keeps as long as the VM.
    unsafe { context.slots.set(context.vm, home, 0) }
}

fn move_and_back(context: &Context<'_>, home: Placement, window: Gpa) -> Result<(), VmmError> {
    let away = Placement {
        gpa: window,
        ..home
    };
    for (from, to) in [(home, away), (away, home)] {
        context.operate(flushed(from), || {
            // SAFETY: as in `delete_and_add`.
            unsafe { context.slots.set(context.vm, to, 0) }
        })?;
        if to == away {
            thread::sleep(HOLD);
        }
    }
    Ok(())
}

fn delete(context: &Context<'_>, placement: Placement) -> Result<(), VmmError> {
    context.operate(flushed(placement), || {
        context.slots.delete(context.vm, placement)
    })
}

fn flushed(placement: Placement) -> HostAct {
    HostAct {
        kind: HostActKind::SlotFlushed,
        slot: placement.id,
        range: FrameRange {
            start: placement.gpa,
            frames: placement.bytes / PAGE_BYTES,
        },
    }
}
