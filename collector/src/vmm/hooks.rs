//! What others want to do while a guest runs.

use std::error::Error;
use std::time::Duration;

use abi::{FrameRange, Phase};

/// What a hook may fail with.
pub type HookError = Box<dyn Error + Send + Sync>;

/// What others want to do while a guest runs. The calls come from several threads, some of them
/// at once.
pub trait Hooks: Sync {
    /// The calling thread is about to enter the guest for the first time, as this vCPU.
    ///
    /// # Errors
    /// As [`Hooks::mark`].
    fn start(&self, vcpu: u16) -> Result<(), HookError> {
        let _ = vcpu;
        Ok(())
    }

    /// The guest says that `phase` begins; `guest_tsc` is its time-stamp counter then, in guest
    /// TSC cycles. On the vCPU's thread, which is outside the guest; others may be inside.
    /// [`Phase::Done`] comes last of a vCPU, and only if its result is right.
    ///
    /// # Errors
    /// Whatever the hook's owner says; the run ends with it.
    fn mark(&self, vcpu: u16, phase: Phase, guest_tsc: u64) -> Result<(), HookError>;

    /// When the guest is to be stopped for [`Hooks::stopped`].
    fn stops(&self) -> Stops {
        Stops::default()
    }

    /// Every vCPU is outside the guest and no actor is inside an operation, until this returns.
    /// Comes before the guest's first instruction, and whenever [`Hooks::stops`] asks for it.
    ///
    /// # Errors
    /// As [`Hooks::mark`].
    fn stopped(&self) -> Result<(), HookError> {
        Ok(())
    }

    /// Whether [`Hooks::acted`] wants to be called: the guest is stopped for each call.
    fn wants_acts(&self) -> bool {
        false
    }

    /// An actor has done something that changes shadow entries. Everything is stopped, as in
    /// [`Hooks::stopped`].
    ///
    /// # Errors
    /// As [`Hooks::mark`].
    fn acted(&self, act: &HostAct) -> Result<(), HookError> {
        let _ = act;
        Ok(())
    }
}

/// When to stop the guest, beside before its first instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// Time between two stops; `None`: none of this kind.
    pub every: Option<Duration>,
    /// At each mark, after [`Hooks::mark`].
    pub marks: bool,
}

/// Something that an actor did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAct {
    /// What.
    pub kind: HostActKind,
    /// KVM's number of the memslot.
    pub slot: u16,
    /// The frames it concerns, as guest-physical addresses of the time before.
    pub range: FrameRange,
}

/// What an actor did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostActKind {
    /// The host's mapping of the range changed: discarded, protected or moved.
    Unmapped,
    /// Dirty logging began for the memslot.
    DirtyStarted,
    /// Dirty bits were taken; the first and the last frame of the range had one.
    DirtyCleared,
    /// Dirty logging ended for the memslot.
    DirtyStopped,
    /// The memslot went from this place.
    SlotFlushed,
}
