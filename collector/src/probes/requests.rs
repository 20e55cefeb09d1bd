//! The programs that run on request, in the context of the thread that asks
//! (`BPF_PROG_TEST_RUN` of a raw tracepoint program).

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use aya::{
    TestRun as _,
    programs::{Program, RawTracePoint, RawTracePointRunOptions},
};
use events::{COLLECTOR_MARK_BASE, Config, KeyframeCursor, Loss, NO_VCPU, Probe, Seq, Vcpu, VcpuId, VmId};

use super::{
    LoadError, Probes,
    address::{direct_map, run_page},
    loader::Plain,
};

/// Runs of the keyframe program after which the list is taken to be circular: 8 million pages.
const MAX_BATCHES: u32 = 1 << 18;
/// How long a keyframe waits for the drain at a time, and in all without any progress.
const RING_PAUSE: Duration = Duration::from_millis(1);
const RING_TIMEOUT: Duration = Duration::from_secs(10);
/// The ring of the instance that only resolves pointers.
const SMALL_RING: u32 = 4096;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The kernel would not run the program.
    #[error("the kernel would not run `{name}`")]
    Run {
        /// The program.
        name: &'static str,
        /// What aya said.
        source: aya::programs::ProgramError,
    },
    /// The program found nothing.
    #[error("`{0}` found nothing: the kernel's structs are not where BTF says")]
    Empty(&'static str),
    /// A map could not be read or written.
    #[error("map {name}")]
    Map {
        /// The map.
        name: &'static str,
        /// What aya said.
        source: aya::maps::MapError,
    },
    /// The start of the direct map could not be found.
    #[error("the kernel's direct map was not found: {0}")]
    DirectMap(String),
    /// The probes could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The ring was full, or the list did not end.
    #[error("keyframe {number}: {why}")]
    Keyframe {
        /// Its number.
        number: u32,
        /// What happened.
        why: String,
    },
}

/// Kernel addresses of a VM and its vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// `struct kvm`
    pub kvm: u64,
    /// `struct kvm_vcpu`
    pub vcpu: u64,
    /// Start of the kernel's direct map.
    pub page_offset: u64,
}

impl Target {
    /// Finds the kernel's structs behind two of this process's file descriptors.
    pub fn find(config: &Config, vm: BorrowedFd<'_>, vcpu: BorrowedFd<'_>) -> Result<Self, RequestError> {
        let (probes, _ring) = Probes::load(config, SMALL_RING, false)?;
        let kvm = probes.resolve(vm)?;
        let vcpu_ptr = probes.resolve(vcpu)?;
        let run = probes.read(vcpu_ptr + u64::from(config.vcpu_run))?;
        let physical = run_page(vcpu)
            .map_err(|error: io::Error| RequestError::DirectMap(format!("the kvm_run page: {error}")))?;
        let page_offset = direct_map(run, physical).ok_or_else(|| {
            RequestError::DirectMap(format!("kvm_run at {run:#x} cannot be the page at {physical:#x}"))
        })?;
        Ok(Self { kvm, vcpu: vcpu_ptr, page_offset })
    }
}

impl Probes {
    /// Its result is in a map: aya's macro makes every raw tracepoint program return 0.
    fn run(&self, name: &'static str, args: [u64; 5]) -> Result<(), RequestError> {
        let program: &RawTracePoint = match self.ebpf.program(name) {
            Some(Program::RawTracePoint(program)) => program,
            _ => return Err(LoadError::Absent(name).into()),
        };
        let mut options = RawTracePointRunOptions::new();
        options.args[..args.len()].copy_from_slice(&args);
        program.test_run(options).map_err(|source| RequestError::Run { name, source })?;
        Ok(())
    }

    /// What `resolve` finds, never 0.
    fn answer(&self, args: [u64; 5]) -> Result<u64, RequestError> {
        let map = |source| RequestError::Map { name: "RESOLVED", source };
        let mut resolved = lock(&self.resolved);
        resolved.set(0, 0, 0).map_err(map)?;
        self.run("resolve", args)?;
        match resolved.get(&0, 0).map_err(map)? {
            0 => Err(RequestError::Empty("resolve")),
            found => Ok(found),
        }
    }

    fn resolve(&self, descriptor: BorrowedFd<'_>) -> Result<u64, RequestError> {
        let number = u64::try_from(descriptor.as_raw_fd()).map_err(|_| RequestError::Empty("resolve"))?;
        self.answer([number, 0, 0, 0, 0])
    }

    /// Eight bytes of kernel memory.
    fn read(&self, address: u64) -> Result<u64, RequestError> {
        self.answer([0, address, 0, 0, 0])
    }

    /// From now on records what the thread does as vCPU of a VM.
    pub fn trace_thread(&self, thread: u32, target: &Target, vm: VmId, vcpu: VcpuId) -> Result<(), RequestError> {
        let entry = Vcpu { vcpu_ptr: target.vcpu, vm, vcpu, ..Vcpu::default() };
        lock(&self.vcpus)
            .insert(thread, Plain(entry), 0)
            .map_err(|source| RequestError::Map { name: "VCPUS", source })
    }

    /// Records that a guest phase begins.
    pub fn mark(&self, vm: VmId, vcpu: VcpuId, phase: u32, guest_tsc: u64) -> Result<(), RequestError> {
        // A mark without room is counted as lost by the program itself.
        let args = [u64::from(phase), u64::from(vm.0), u64::from(vcpu.0), 0, guest_tsc];
        self.run("mark", args)
    }

    /// Copies every shadow page of a VM whose vCPUs are stopped; answers with their number.
    /// Waits for the drain where the ring is full.
    pub fn keyframe(&self, target: &Target, vm: VmId, number: u32) -> Result<u32, RequestError> {
        let mut cursor = lock(&self.cursor);
        let map = |source| RequestError::Map { name: "CURSOR", source };
        cursor.set(0, Plain(KeyframeCursor::default()), 0).map_err(map)?;
        let args = [target.kvm, u64::from(vm.0), u64::from(number), 0, 0];
        let mut before = KeyframeCursor::default();
        let mut waited = Duration::ZERO;
        for _ in 0..MAX_BATCHES {
            self.run("keyframe", args)?;
            let Plain(state) = cursor.get(&0, 0).map_err(map)?;
            if state.failed != 0 {
                return Err(RequestError::Empty("keyframe"));
            }
            if state.done != 0 {
                let mark = u64::from(COLLECTOR_MARK_BASE);
                let vcpu = u64::from(NO_VCPU.0);
                let listed = u64::from(state.pages) + u64::from(state.lost);
                self.run("mark", [mark, u64::from(vm.0), vcpu, u64::from(number), listed])?;
                return Ok(state.pages);
            }
            if (state.pages, state.lost) != (before.pages, before.lost) {
                before = state;
                waited = Duration::ZERO;
            } else if waited < RING_TIMEOUT {
                thread::sleep(RING_PAUSE);
                waited += RING_PAUSE;
            } else {
                let why = format!("the ring stayed full for {} s", RING_TIMEOUT.as_secs());
                return Err(RequestError::Keyframe { number, why });
            }
        }
        Err(RequestError::Keyframe { number, why: "the list of shadow pages does not end".to_owned() })
    }

    /// The sequence number that the next record gets.
    pub fn next_seq(&self) -> Result<Seq, RequestError> {
        self.seq.get(&0, 0).map(Seq).map_err(|source| RequestError::Map { name: "SEQ", source })
    }

    /// What each probe lost so far, all CPUs together.
    pub fn losses(&self) -> Result<Vec<(Probe, Loss)>, RequestError> {
        Probe::ALL
            .into_iter()
            .map(|probe| {
                let cpus = self
                    .losses
                    .get(&(probe as u32), 0)
                    .map_err(|source| RequestError::Map { name: "LOSSES", source })?;
                let sum = cpus.iter().map(|Plain(loss)| *loss).filter(|loss| loss.count > 0).reduce(|a, b| Loss {
                    count: a.count + b.count,
                    first: a.first.min(b.first),
                    last: a.last.max(b.last),
                });
                Ok((probe, sum.unwrap_or_default()))
            })
            .collect()
    }
}

/// A thread that panicked in here leaves plain numbers behind, which are still right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
