//! Callbacks of a run.

use std::error::Error;
use std::time::Instant;

use abi::{FrameRange, Phase};

use crate::keyframe::Every;

/// The error of a hook.
pub type HookError = Box<dyn Error + Send + Sync>;

/// Callbacks while a guest runs. They are called from several threads, also at the same time.
pub trait Hooks: Sync {
    /// The calling thread is about to enter the guest for the first time, as this vCPU.
    ///
    /// # Errors
    /// As [`Hooks::mark`].
    fn start(&self, vcpu: u16) -> Result<(), HookError> {
        let _ = vcpu;
        Ok(())
    }

    /// The guest has marked that `phase` begins; `guest_tsc` is its time-stamp counter then, in
    /// guest TSC cycles. Called on the vCPU's thread, which is outside the guest; other vCPUs may
    /// be inside. [`Phase::Done`] is a vCPU's last, and is only reported if its result is correct.
    ///
    /// # Errors
    /// Any error; the run ends with it.
    fn mark(&self, vcpu: u16, phase: Phase, guest_tsc: u64) -> Result<(), HookError>;

    /// When to stop the guest for [`Hooks::stopped`].
    fn stops(&self) -> Stops {
        Stops::default()
    }

    /// Every vCPU is outside the guest and no actor is inside an operation until this returns.
    /// Called before the guest's first instruction and whenever [`Hooks::stops`] asks for it; then
    /// it was told to stop at `since`.
    ///
    /// # Errors
    /// As [`Hooks::mark`].
    fn stopped(&self, since: Option<Instant>) -> Result<(), HookError> {
        let _ = since;
        Ok(())
    }

    /// Whether to call [`Hooks::acted`]: the guest is stopped for each call.
    fn wants_acts(&self) -> bool {
        false
    }

    /// An actor has done something that changes shadow entries. The world is stopped, as in
    /// [`Hooks::stopped`].
    ///
    /// # Errors
    /// As [`Hooks::mark`].
    fn acted(&self, act: &HostAct) -> Result<(), HookError> {
        let _ = act;
        Ok(())
    }
}

/// When to stop the guest, in addition to the stop before its first instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// When regular stops are; `None`: there are none.
    pub every: Option<Every>,
    /// At each mark, after [`Hooks::mark`].
    pub marks: bool,
}

/// An operation of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAct {
    /// Its kind.
    pub kind: HostActKind,
    /// KVM's number of the memslot.
    pub slot: u16,
    /// The frames that it concerns, by their guest-physical addresses before it.
    pub range: FrameRange,
}

/// The kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostActKind {
    /// The host's mapping of the range changed: discarded, protected or moved.
    Unmapped,
    /// Dirty logging began for the memslot.
    DirtyStarted,
    /// Dirty bits were cleared; the first and the last frame of the range had one.
    DirtyCleared,
    /// Dirty logging ended for the memslot.
    DirtyStopped,
    /// The memslot was deleted from this address, or moved away from it.
    SlotFlushed,
}
