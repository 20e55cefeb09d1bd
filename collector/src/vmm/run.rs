//! The loop around `KVM_RUN`.

use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use abi::{Call, Phase};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::call::{self, Said};
use super::exit::{Action, Failure, decide};
use super::watchdog::{self, Reason, Watch};
use super::{Regs, Vmm, VmmError, seccomp};

/// What a hook may fail with.
pub type HookError = Box<dyn Error + Send + Sync>;

/// What others want to do while a guest runs. All calls come on the vCPU's thread, while
/// the vCPU is outside the guest.
pub trait Hooks {
    /// The thread is about to enter the guest for the first time.
    ///
    /// # Errors
    /// As [`Hooks::mark`].
    fn start(&mut self, vcpu: u16) -> Result<(), HookError> {
        let _ = vcpu;
        Ok(())
    }

    /// The guest says that `phase` begins; `guest_tsc` is its time-stamp counter then,
    /// in guest TSC cycles. [`Phase::Done`] comes last, and only if the result is right.
    ///
    /// # Errors
    /// Whatever the hook's owner says; the run ends with it.
    fn mark(&mut self, vcpu: u16, phase: Phase, guest_tsc: u64) -> Result<(), HookError>;

    /// How often [`Hooks::tick`] wants to be called; `None`: never.
    fn tick_every(&self) -> Option<Duration> {
        None
    }

    /// A regular stop of the guest, asked for by [`Hooks::tick_every`].
    ///
    /// # Errors
    /// As [`Hooks::mark`].
    fn tick(&mut self, vcpu: u16) -> Result<(), HookError> {
        let _ = vcpu;
        Ok(())
    }
}

/// What a guest that did its work says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestResult {
    /// Pages that the guest checked and found right.
    pub pages: u64,
    /// The marks, in order: phase and guest TSC (cycles).
    pub marks: Vec<(Phase, u64)>,
    /// Wall-clock time from the first `KVM_RUN` to the guest's last call, hooks included.
    pub elapsed: Duration,
    /// Returns of `KVM_RUN` to this process.
    pub exits: u64,
}

/// The one vCPU.
const VCPU: u16 = 0;

/// Most marks of a run: a guest that marks without end must not fill memory and disk.
const MAX_MARKS: usize = 64;

impl Vmm {
    /// Runs vCPU 0 on the caller's thread until the guest is done.
    ///
    /// A watchdog thread kicks the vCPU out of the guest when `timeout` is over or
    /// `cancel` is set, at most 50 ms later.
    ///
    /// # Errors
    /// Everything that is not a right result: see [`VmmError`]. The VM cannot be run again.
    pub fn run(
        &mut self,
        hooks: &mut dyn Hooks,
        timeout: Duration,
        cancel: &AtomicBool,
    ) -> Result<GuestResult, VmmError> {
        let orders = watchdog::Orders {
            timeout,
            cancel,
            tick_every: hooks.tick_every(),
        };
        watchdog::watch(orders, |watch| {
            if self.confined {
                seccomp::confine_thread().map_err(|error| VmmError::Seccomp(error.into()))?;
            }
            self.run_watched(hooks, timeout, watch)
        })
        .map_err(VmmError::Watchdog)?
    }

    fn run_watched(
        &mut self,
        hooks: &mut dyn Hooks,
        timeout: Duration,
        watch: &Watch,
    ) -> Result<GuestResult, VmmError> {
        hooks.start(VCPU).map_err(VmmError::Start)?;
        let begin = Instant::now();
        let mut marks = Vec::new();
        let mut exits = 0;
        loop {
            match watch.stop_reason() {
                Some(Reason::Timeout) => {
                    return Err(VmmError::Timeout {
                        after: timeout,
                        regs: Regs::of(&self.vcpu)?,
                    });
                }
                Some(Reason::Cancelled) => return Err(VmmError::Cancelled),
                None if watch.take_tick() => hooks.tick(VCPU).map_err(VmmError::Tick)?,
                None => {}
            }
            exits += 1;
            let call = match run_once(&mut self.vcpu)? {
                Action::Resume => continue,
                Action::Fail(failure) => return Err(self.failed(failure)),
                Action::Call(call) => call,
            };
            let (phase, guest_tsc, result) = match self.said(call)? {
                Said::Mark { phase, guest_tsc } => (phase, guest_tsc, None),
                Said::Done { pages, guest_tsc } => (Phase::Done, guest_tsc, Some(pages)),
                Said::Exception {
                    vector,
                    error_code,
                    rip,
                    cr2,
                } => {
                    let regs = Regs::of(&self.vcpu)?;
                    return Err(VmmError::GuestException {
                        vector,
                        error_code,
                        rip,
                        cr2,
                        regs,
                    });
                }
            };
            if marks.len() == MAX_MARKS {
                return Err(VmmError::TooManyMarks { limit: MAX_MARKS });
            }
            marks.push((phase, guest_tsc));
            hooks
                .mark(VCPU, phase, guest_tsc)
                .map_err(|source| VmmError::Hook { phase, source })?;
            if let Some(pages) = result {
                return Ok(GuestResult {
                    pages,
                    marks,
                    elapsed: begin.elapsed(),
                    exits,
                });
            }
        }
    }

    fn said(&self, call: Call) -> Result<Said, VmmError> {
        call::read(call, &self.ram.mailbox()?)
    }

    /// Adds to a failure what only the vCPU knows.
    fn failed(&mut self, failure: Failure) -> VmmError {
        let regs = match Regs::of(&self.vcpu) {
            Ok(regs) => regs,
            Err(error) => return error,
        };
        match failure {
            Failure::Shutdown => VmmError::TripleFault { regs },
            Failure::Outside { gpa, write } => VmmError::OutsideMemory { gpa, write, regs },
            Failure::Internal => {
                let run = self.vcpu.get_kvm_run();
                // SAFETY: plain numbers, valid as any bytes; KVM has filled this member,
                // because the exit reason is KVM_EXIT_INTERNAL_ERROR.
                let suberror = unsafe { run.__bindgen_anon_1.internal.suberror };
                VmmError::InternalError { suberror, regs }
            }
            Failure::Entry { reason } => VmmError::FailEntry { reason, regs },
            Failure::Port { port, write } => VmmError::UnknownPort { port, write, regs },
            Failure::UnknownCall(error) => VmmError::UnknownCall(error),
            Failure::Unexpected(exit) => VmmError::UnexpectedExit { exit, regs },
        }
    }
}

/// Enters the guest once.
fn run_once(vcpu: &mut VcpuFd) -> Result<Action, VmmError> {
    let source = match vcpu.run() {
        Ok(exit) => return Ok(decide(&exit)),
        Err(error) => error,
    };
    match source.errno() {
        // A signal, most likely the watchdog's.
        libc::EINTR | libc::EAGAIN => Ok(decide(&VcpuExit::Intr)),
        _ => Err(VmmError::Run {
            source,
            regs: Regs::of(vcpu)?,
        }),
    }
}
