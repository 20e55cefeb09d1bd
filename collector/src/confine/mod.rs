//! What the threads of a recording may still do once it has begun.
//!
//! ```text
//! seccomp   system calls, for the whole process and for each kind of thread
//! landlock  files, where the kernel has it: only the trace can be written
//! ```
//!
//! Root and its capabilities are given up before; see [`crate::privileges`]. What is in here limits
//! what is left: a guest, a kernel's record or a bug that takes a thread over finds no other
//! program, no network, no other file and no way to load a BPF program.

mod landlock;
mod seccomp;

use std::{io, path::Path};

pub use seccomp::Thread;

/// Why a thread or the process is not confined.
#[derive(Debug, thiserror::Error)]
#[error("while giving up what a recording does not need ({doing})")]
pub struct ConfineError {
    doing: &'static str,
    source: io::Error,
}

/// Confines every thread of this process, and those that it starts, for good. Threads with a filter
/// of their own must start later.
pub fn process() -> Result<(), ConfineError> {
    seccomp::process().map_err(failed("seccomp, all threads"))
}

/// Confines the calling thread for good.
pub fn thread(kind: Thread) -> Result<(), ConfineError> {
    seccomp::thread(kind).map_err(failed("seccomp, one thread"))
}

/// From now on the calling thread, and those that it starts, change files in `folder` only. Nothing
/// where the kernel has no Landlock. Not for a thread that traces other processes: Landlock would
/// keep it from that.
pub fn files(folder: &Path) -> Result<(), ConfineError> {
    landlock::only(folder).map_err(failed("Landlock"))
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> ConfineError {
    move |source| ConfineError { doing, source }
}
