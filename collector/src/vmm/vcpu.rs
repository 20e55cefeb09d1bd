//! One vCPU: the loop around `KVM_RUN`.

use std::time::Instant;

use abi::{CALL_PORT, Call, PORT_ANSWER, Phase};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::call::{self, Message};
use super::error::VmmError;
use super::exit::{Action, Failure, decide};
use super::lifecycle::{Stop, VcpuGuard};
use super::lock::lock;
use super::regs::Regs;
use super::shared::{GuestMark, Shared};
use super::world::Inside;
use crate::confine;

/// Maximum number of marks of a vCPU: a guest that never stops marking must not fill memory and
/// disk.
const MAX_MARKS: usize = 64;

/// The result of a vCPU that did its part of the work.
#[derive(Clone, Copy, Debug)]
pub(super) struct VcpuResult {
    pub(super) pages: u64,
    pub(super) exits: u64,
    pub(super) at: Instant,
}

/// A vCPU and the run that it belongs to.
pub(super) struct Vcpu<'a> {
    pub(super) number: u16,
    pub(super) fd: &'a mut VcpuFd,
    pub(super) shared: &'a Shared<'a>,
}

impl Vcpu<'_> {
    /// Runs it on the calling thread until its part is done, or the run ends: `lifecycle` has the
    /// error then.
    pub(super) fn run(mut self, mut guard: VcpuGuard<'_>) -> Option<VcpuResult> {
        let ran = self.start().and_then(|()| {
            guard.ready();
            let inside = self.shared.world.enter_as_vcpu();
            self.run_inside(&inside)
        });
        ran.unwrap_or_else(|error| {
            self.shared.lifecycle.fail(error);
            None
        })
    }

    fn start(&self) -> Result<(), VmmError> {
        if self.shared.confined {
            confine::thread(confine::Thread::Vcpu)
                .map_err(|error| VmmError::Seccomp(error.into()))?;
        }
        let started = self.shared.hooks.start(self.number);
        started.map_err(VmmError::Start)
    }

    /// `None`: the run ends for a reason that is reported elsewhere.
    fn run_inside(&mut self, inside: &Inside<'_>) -> Result<Option<VcpuResult>, VmmError> {
        let (mut exits, mut marks) = (0, 0);
        loop {
            inside.pause();
            match self.shared.lifecycle.stop() {
                None => {}
                Some(Stop::Failed) => return Ok(None),
                Some(Stop::Timeout) => {
                    return Err(VmmError::Timeout {
                        after: self.shared.timeout,
                        regs: regs(self.fd)?,
                    });
                }
            }
            exits += 1;
            let call = match self.enter_guest(inside)? {
                Action::Resume => continue,
                Action::Fail(failure) => return Err(self.failed(failure)),
                Action::Call(call) => call,
            };
            let (phase, guest_tsc, pages) = match self.message(call)? {
                Message::Mark { phase, guest_tsc } => (phase, guest_tsc, None),
                Message::Done { pages, guest_tsc } => (Phase::Done, guest_tsc, Some(pages)),
                Message::Smi => {
                    self.fd.smi().map_err(VmmError::Smi)?;
                    continue;
                }
                Message::Exception {
                    vector,
                    error_code,
                    rip,
                    cr2,
                } => {
                    return Err(VmmError::GuestException {
                        vector,
                        error_code,
                        rip,
                        cr2,
                        regs: regs(self.fd)?,
                    });
                }
            };
            if marks == MAX_MARKS {
                return Err(VmmError::TooManyMarks { limit: MAX_MARKS });
            }
            marks += 1;
            self.mark(inside, phase, guest_tsc)?;
            if let Some(pages) = pages {
                return Ok(Some(VcpuResult {
                    pages,
                    exits,
                    at: Instant::now(),
                }));
            }
        }
    }

    fn message(&self, call: Call) -> Result<Message, VmmError> {
        call::read(call, &self.shared.ram.mailbox(self.number)?)
    }

    fn mark(&self, inside: &Inside<'_>, phase: Phase, guest_tsc: u64) -> Result<(), VmmError> {
        let (shared, vcpu) = (self.shared, self.number);
        lock(&shared.marks).push(GuestMark {
            vcpu,
            phase,
            guest_tsc,
        });
        let marked = shared.hooks.mark(vcpu, phase, guest_tsc);
        marked.map_err(|source| VmmError::Hook { phase, source })?;
        if shared.hooks.stops().marks {
            inside.stop(|| shared.stopped())?;
        }
        // Before that the guest prepares its work, which actors must not disturb.
        if !matches!(phase, Phase::Start | Phase::Map | Phase::Done) {
            shared.lifecycle.work_begins();
        }
        Ok(())
    }

    /// Enters the guest once.
    fn enter_guest(&mut self, inside: &Inside<'_>) -> Result<Action, VmmError> {
        let shared = self.shared;
        let before = shared.disturbances.snapshot();
        let failed = match self.fd.run() {
            Ok(VcpuExit::MmioRead(gpa, data)) => {
                if let Some(backing) = shared.mmio.backing(gpa, data.len()) {
                    let read = || shared.ram.read(backing, data);
                    let read = inside.step_out(|| shared.disturbances.run_undisturbed(read));
                    read.ok_or(VmmError::MemoryLost)??;
                    return Ok(Action::Resume);
                }
                return Ok(decide(&VcpuExit::MmioRead(gpa, data)));
            }
            Ok(VcpuExit::MmioWrite(gpa, data)) => {
                if let Some(backing) = shared.mmio.backing(gpa, data.len()) {
                    let write = || shared.ram.write(backing, data);
                    let written = inside.step_out(|| shared.disturbances.run_undisturbed(write));
                    written.ok_or(VmmError::MemoryLost)??;
                    return Ok(Action::Resume);
                }
                return Ok(decide(&VcpuExit::MmioWrite(gpa, data)));
            }
            Ok(VcpuExit::IoIn(CALL_PORT, data)) if data.len() == size_of_val(&PORT_ANSWER) => {
                data.copy_from_slice(&PORT_ANSWER.to_le_bytes());
                return Ok(Action::Resume);
            }
            // A newer KVM gives details where older ones fail with `EFAULT` alone.
            Ok(exit @ VcpuExit::MemoryFault { .. }) => Ok(decide(&exit)),
            Ok(exit) => return Ok(decide(&exit)),
            Err(source) => match source.errno() {
                // A signal, most likely a kick.
                libc::EINTR | libc::EAGAIN => return Ok(decide(&VcpuExit::Intr)),
                _ => Err(source),
            },
        };
        let is_memory_fault = match &failed {
            Ok(_) => true,
            Err(source) => source.errno() == libc::EFAULT,
        };
        if is_memory_fault && inside.step_out(|| shared.disturbances.wait_out(before)) {
            return Ok(Action::Resume);
        }
        failed.or_else(|source| {
            Err(VmmError::Run {
                source,
                regs: regs(self.fd)?,
            })
        })
    }

    /// Adds the registers and other details of the vCPU to a failure.
    fn failed(&mut self, failure: Failure) -> VmmError {
        let regs = match regs(self.fd) {
            Ok(regs) => regs,
            Err(error) => return error,
        };
        match failure {
            Failure::Shutdown => VmmError::TripleFault { regs },
            Failure::Outside { gpa, write } => VmmError::OutsideMemory { gpa, write, regs },
            Failure::Internal => {
                let run = self.fd.get_kvm_run();
                // SAFETY: plain numbers, for which any bytes are valid; KVM has filled this member,
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

/// Reads the registers from KVM.
///
/// # Errors
/// [`VmmError::GetRegs`] or [`VmmError::GetSregs`].
fn regs(vcpu: &VcpuFd) -> Result<Box<Regs>, VmmError> {
    Ok(Box::new(Regs {
        general: vcpu.get_regs().map_err(VmmError::GetRegs)?,
        special: vcpu.get_sregs().map_err(VmmError::GetSregs)?,
    }))
}
