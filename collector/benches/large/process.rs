//! What a process took.

use std::{io, mem::MaybeUninit, process::Command};

use anyhow::{Context as _, bail};

/// CPU time and memory of one process.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// User and system time, s.
    pub cpu_s: f64,
    /// Most memory at a time, bytes.
    pub memory: u64,
}

/// Runs a command to its end, which must be a good one.
pub fn run(command: &mut Command) -> anyhow::Result<Used> {
    let child = command
        .spawn()
        .with_context(|| format!("while starting {}", command.get_program().display()))?;
    let id = libc::pid_t::try_from(child.id()).context("its process id")?;
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both are room for one; the child is waited for nowhere else.
    if unsafe { libc::wait4(id, &raw mut status, 0, usage.as_mut_ptr()) } != id {
        return Err(io::Error::last_os_error()).context("wait4");
    }
    // SAFETY: plain numbers, valid as zeroes, and filled in.
    let usage = unsafe { usage.assume_init() };
    if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 0 {
        bail!("ended with status {status:#x}");
    }
    let time = |of: libc::timeval| of.tv_sec as f64 + of.tv_usec as f64 / 1e6;
    Ok(Used {
        cpu_s: time(usage.ru_utime) + time(usage.ru_stime),
        memory: u64::try_from(usage.ru_maxrss).context("its memory")? << 10,
    })
}
