//! Runs a program in the context of the thread that asks (`BPF_PROG_TEST_RUN` of a raw tracepoint
//! program). Its answer is in a map: aya's macro makes every raw tracepoint program return 0.

use std::os::fd::RawFd;

use aya::{
    Ebpf, TestRun as _,
    programs::{Program, RawTracePoint, RawTracePointRunOptions},
};
use events::VmId;

use super::object::LoadError;

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
    /// The VM is not shadowed.
    #[error("this VM uses two-dimensional paging (EPT or NPT): there are no shadow tables")]
    TwoDimensional,
    /// The probes were loaded for nested guests.
    #[error(
        "KVM's module was loaded again with other parameters since the recording began: start a new one"
    )]
    Reloaded,
    /// It has a number already.
    #[error("this VM is traced already, as VM {}", .0.0)]
    Followed(VmId),
    /// The probes could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The records of a keyframe found no room.
    #[error("keyframe {number}: the ring stayed full for {seconds} s")]
    RingFull {
        /// Its number.
        number: u32,
        /// How long the collector waited.
        seconds: u64,
    },
    /// The tables changed while they were copied, so there is no keyframe.
    #[error("keyframe {number}: {why}")]
    Keyframe {
        /// Its number.
        number: u32,
        /// What happened.
        why: String,
    },
}

/// Runs a loaded program in the context of the calling thread.
pub fn run<const ARGS: usize>(
    ebpf: &Ebpf,
    name: &'static str,
    args: [u64; ARGS],
) -> Result<(), RequestError> {
    let program: &RawTracePoint = match ebpf.program(name) {
        Some(Program::RawTracePoint(program)) => program,
        _ => return Err(LoadError::Absent(name).into()),
    };
    let mut options = RawTracePointRunOptions::new();
    options.args[..args.len()].copy_from_slice(&args);
    program
        .test_run(options)
        .map_err(|source| RequestError::Run { name, source })?;
    Ok(())
}

/// A file descriptor as a program's argument.
pub fn argument(descriptor: RawFd) -> Result<u64, RequestError> {
    u64::try_from(descriptor).map_err(|_| RequestError::Empty("a file descriptor"))
}
