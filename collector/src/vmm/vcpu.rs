//! One vCPU: the loop around `KVM_RUN`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use abi::{Call, Phase};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::call::{self, Said};
use super::calm::Calm;
use super::course::{Course, Part, Stop};
use super::exit::{Action, Failure, decide};
use super::hooks::{Hooks, HostAct};
use super::memory::Ram;
use super::run::GuestMark;
use super::stand_in::StandIn;
use super::world::{Inside, World};
use super::{Regs, VmmError, lock, seccomp};

/// Most marks of a vCPU: a guest that marks without end must not fill memory and disk.
const MAX_MARKS: usize = 64;

/// What all threads of a run share.
pub(super) struct Scene<'a> {
    pub(super) world: World,
    pub(super) course: Course,
    pub(super) calm: Calm,
    pub(super) ram: &'a Ram,
    pub(super) stand_in: StandIn,
    pub(super) hooks: &'a dyn Hooks,
    pub(super) timeout: Duration,
    pub(super) confined: bool,
    /// Of all vCPUs, as they come.
    pub(super) marks: Mutex<Vec<GuestMark>>,
    /// What actors did and the hooks have not been told.
    pub(super) acts: Mutex<Vec<HostAct>>,
}

impl Scene<'_> {
    /// To be called in a stopped world: the hook for it.
    pub(super) fn stopped(&self) -> Result<(), VmmError> {
        self.tell_acts()?;
        self.hooks.stopped().map_err(VmmError::Stopped)
    }

    /// To be called in a stopped world. Whoever stops it first tells what was done before: else
    /// a keyframe would show a change that nobody has announced.
    pub(super) fn tell_acts(&self) -> Result<(), VmmError> {
        for act in lock(&self.acts).drain(..) {
            self.hooks.acted(&act).map_err(VmmError::Acted)?;
        }
        Ok(())
    }
}

/// What a vCPU that did its part says about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) pages: u64,
    pub(super) exits: u64,
    pub(super) at: Instant,
}

/// A vCPU and what it runs in.
pub(super) struct Vcpu<'a> {
    pub(super) number: u16,
    pub(super) fd: &'a mut VcpuFd,
    pub(super) scene: &'a Scene<'a>,
}

impl Vcpu<'_> {
    /// Runs it on the calling thread until its part is done, or the run ends: its error is in
    /// the course then.
    pub(super) fn run(mut self, mut part: Part<'_>) -> Option<Done> {
        let ran = self.start().and_then(|()| {
            part.ready();
            let inside = self.scene.world.enter_as_vcpu();
            self.run_inside(&inside)
        });
        ran.unwrap_or_else(|error| {
            self.scene.course.fail(error);
            None
        })
    }

    fn start(&self) -> Result<(), VmmError> {
        if self.scene.confined {
            seccomp::confine_thread().map_err(|error| VmmError::Seccomp(error.into()))?;
        }
        let started = self.scene.hooks.start(self.number);
        started.map_err(VmmError::Start)
    }

    /// `None`: the run ends, and it is said elsewhere why.
    fn run_inside(&mut self, inside: &Inside<'_>) -> Result<Option<Done>, VmmError> {
        let (mut exits, mut marks) = (0, 0);
        loop {
            inside.pause();
            match self.scene.course.stop() {
                None => {}
                Some(Stop::Failed) => return Ok(None),
                Some(Stop::Timeout) => {
                    return Err(VmmError::Timeout {
                        after: self.scene.timeout,
                        regs: Regs::of(self.fd)?,
                    });
                }
            }
            exits += 1;
            let call = match self.enter_guest(inside)? {
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
                    return Err(VmmError::GuestException {
                        vector,
                        error_code,
                        rip,
                        cr2,
                        regs: Regs::of(self.fd)?,
                    });
                }
            };
            if marks == MAX_MARKS {
                return Err(VmmError::TooManyMarks { limit: MAX_MARKS });
            }
            marks += 1;
            self.mark(inside, phase, guest_tsc)?;
            if let Some(pages) = result {
                return Ok(Some(Done {
                    pages,
                    exits,
                    at: Instant::now(),
                }));
            }
        }
    }

    fn said(&self, call: Call) -> Result<Said, VmmError> {
        call::read(call, &self.scene.ram.mailbox(self.number)?)
    }

    fn mark(&self, inside: &Inside<'_>, phase: Phase, guest_tsc: u64) -> Result<(), VmmError> {
        let (scene, vcpu) = (self.scene, self.number);
        lock(&scene.marks).push(GuestMark {
            vcpu,
            phase,
            guest_tsc,
        });
        let marked = scene.hooks.mark(vcpu, phase, guest_tsc);
        marked.map_err(|source| VmmError::Hook { phase, source })?;
        if scene.hooks.stops().marks {
            inside.stop(|| scene.stopped())?;
        }
        // What comes before is the guest's preparation, which actors must not disturb.
        if !matches!(phase, Phase::Start | Phase::Map | Phase::Done) {
            scene.course.work_begins();
        }
        Ok(())
    }

    /// Enters the guest once.
    fn enter_guest(&mut self, inside: &Inside<'_>) -> Result<Action, VmmError> {
        let scene = self.scene;
        let before = scene.calm.look();
        let away = match self.fd.run() {
            Ok(VcpuExit::MmioRead(gpa, data)) => {
                if let Some(home) = scene.stand_in.home(gpa, data.len()) {
                    let read = inside.aside(|| scene.calm.calmly(|| scene.ram.read(home, data)));
                    read.ok_or(VmmError::MemoryLost)??;
                    return Ok(Action::Resume);
                }
                return Ok(decide(&VcpuExit::MmioRead(gpa, data)));
            }
            Ok(VcpuExit::MmioWrite(gpa, data)) => {
                if let Some(home) = scene.stand_in.home(gpa, data.len()) {
                    let written =
                        inside.aside(|| scene.calm.calmly(|| scene.ram.write(home, data)));
                    written.ok_or(VmmError::MemoryLost)??;
                    return Ok(Action::Resume);
                }
                return Ok(decide(&VcpuExit::MmioWrite(gpa, data)));
            }
            // A newer KVM says more about what else is a bare `EFAULT`.
            Ok(exit @ VcpuExit::MemoryFault { .. }) => Ok(decide(&exit)),
            Ok(exit) => return Ok(decide(&exit)),
            Err(source) => match source.errno() {
                // A signal, most likely a kick.
                libc::EINTR | libc::EAGAIN => return Ok(decide(&VcpuExit::Intr)),
                _ => Err(source),
            },
        };
        let about_memory = match &away {
            Ok(_) => true,
            Err(source) => source.errno() == libc::EFAULT,
        };
        if about_memory && inside.aside(|| scene.calm.outlast(before)) {
            return Ok(Action::Resume);
        }
        away.or_else(|source| {
            Err(VmmError::Run {
                source,
                regs: Regs::of(self.fd)?,
            })
        })
    }

    /// Adds to a failure what only the vCPU knows.
    fn failed(&mut self, failure: Failure) -> VmmError {
        let regs = match Regs::of(self.fd) {
            Ok(regs) => regs,
            Err(error) => return error,
        };
        match failure {
            Failure::Shutdown => VmmError::TripleFault { regs },
            Failure::Outside { gpa, write } => VmmError::OutsideMemory { gpa, write, regs },
            Failure::Internal => {
                let run = self.fd.get_kvm_run();
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
