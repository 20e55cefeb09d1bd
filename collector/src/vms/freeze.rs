//! A process's threads stopped while something is done.
//!
//! A thread that is seized by `ptrace` and interrupted leaves `KVM_RUN` with `EINTR`, as for a signal
//! without one being sent, and waits. All threads are stopped, not only those of vCPUs: the others
//! change memslots and give memory back, and start vCPUs. The thread that stops them is one of its
//! own, and the kernel lets them go when it ends, however it ends: nothing stays stopped behind us.

use std::{
    collections::BTreeSet,
    fs, io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use libc::{c_int, pid_t};
use rustix::process::Pid;

/// Longest time that the threads may take to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a thread that has not stopped.
const PAUSE: Duration = Duration::from_micros(50);
/// `PTRACE_EVENT_STOP`, as `waitpid` reports it.
const EVENT_STOP: c_int = libc::PTRACE_EVENT_STOP;

/// Why the threads were not stopped.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The process has ended.
    #[error("the process has ended")]
    Ended,
    /// Another tracer has it.
    #[error(
        "thread {thread} is traced by process {tracer} already (a debugger, or another collector)"
    )]
    Traced {
        /// The thread.
        thread: pid_t,
        /// The other tracer.
        tracer: pid_t,
    },
    /// The kernel refused.
    #[error("thread {thread} cannot be stopped ({doing})")]
    Refused {
        /// The thread.
        thread: pid_t,
        /// What failed.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is in the kernel, and stays there.
    #[error("thread {thread} did not stop within {} s", PATIENCE.as_secs())]
    Late {
        /// The thread.
        thread: pid_t,
    },
}

/// Does `work` while every thread of the process is stopped.
pub fn while_stopped<T: Send>(
    process: Pid,
    work: impl FnOnce() -> T + Send,
) -> Result<T, FreezeError> {
    let process = process.as_raw_nonzero().get();
    let stopped = || {
        let threads = stop(process)?;
        let result = work();
        for thread in threads {
            // One that was killed meanwhile has nothing to be let go from.
            let _ = request(libc::PTRACE_DETACH, thread, 0);
        }
        Ok(result)
    };
    thread::scope(|scope| {
        scope
            .spawn(stopped)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Stops all threads, also those that start meanwhile.
fn stop(process: pid_t) -> Result<BTreeSet<pid_t>, FreezeError> {
    let deadline = Instant::now() + PATIENCE;
    let mut stopped = BTreeSet::new();
    let mut ended = BTreeSet::new();
    loop {
        let mut moving = BTreeSet::new();
        let mut news = false;
        for thread in threads(process)? {
            if stopped.contains(&thread) || ended.contains(&thread) {
                continue;
            }
            // One that has ended may have started another one before.
            news = true;
            let set = match interrupt(thread, deadline)? {
                true => &mut moving,
                false => &mut ended,
            };
            set.insert(thread);
        }
        if !news {
            return match stopped.is_empty() {
                true => Err(FreezeError::Ended),
                false => Ok(stopped),
            };
        }
        if Instant::now() > deadline {
            // Each of its threads starts the next.
            return Err(FreezeError::Late { thread: process });
        }
        // All at once: the first thread of a process that is killed is the last to be reported.
        while !moving.is_empty() {
            let mut still = BTreeSet::new();
            for thread in moving {
                match look(thread)? {
                    Seen::Moving => {
                        still.insert(thread);
                    }
                    Seen::Stopped => {
                        stopped.insert(thread);
                    }
                    Seen::Ended => {}
                }
            }
            moving = still;
            if let Some(&thread) = moving.first()
                && Instant::now() > deadline
            {
                return Err(FreezeError::Late { thread });
            }
            if !moving.is_empty() {
                thread::sleep(PAUSE);
            }
        }
    }
}

fn threads(process: pid_t) -> Result<Vec<pid_t>, FreezeError> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).map_err(|_| FreezeError::Ended)?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// Asks a thread to stop; false if it has ended. Another collector lets go of it soon: both begin with
/// the first thread, so that neither waits for the other while it holds one.
fn interrupt(thread: pid_t, deadline: Instant) -> Result<bool, FreezeError> {
    let refused = |doing, source| FreezeError::Refused {
        thread,
        doing,
        source,
    };
    let mut free = false;
    while let Err(source) = request(libc::PTRACE_SEIZE, thread, 0) {
        if source.raw_os_error() == Some(libc::ESRCH) || status(thread, "State:").starts_with('Z') {
            return Ok(false);
        }
        match status(thread, "TracerPid:").parse() {
            // Its tracer may have let go of it since.
            Ok(0) if !free => free = true,
            Ok(0) | Err(_) => return Err(refused("PTRACE_SEIZE", source)),
            Ok(tracer) if Instant::now() > deadline => {
                return Err(FreezeError::Traced { thread, tracer });
            }
            Ok(_) => {
                free = false;
                thread::sleep(PAUSE);
            }
        }
    }
    match request(libc::PTRACE_INTERRUPT, thread, 0) {
        Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
            Err(refused("PTRACE_INTERRUPT", source))
        }
        // One that was killed meanwhile is reported as such.
        _ => Ok(true),
    }
}

/// A line of `/proc/THREAD/status`; empty if there is none.
fn status(thread: pid_t, name: &str) -> String {
    let path: PathBuf = format!("/proc/{thread}/status").into();
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map_or_else(String::new, |value| value.trim().to_owned())
}

enum Seen {
    Moving,
    Stopped,
    Ended,
}

/// What has become of a thread that was interrupted.
fn look(thread: pid_t) -> Result<Seen, FreezeError> {
    let mut status: c_int = 0;
    // SAFETY: `status` outlives the call.
    let found = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL | libc::WNOHANG) };
    if found == 0 {
        return Ok(Seen::Moving);
    }
    if found < 0 || !libc::WIFSTOPPED(status) {
        return Ok(Seen::Ended);
    }
    if status >> 16 == EVENT_STOP {
        return Ok(Seen::Stopped);
    }
    // A signal was about to be delivered: it is not ours to keep. The interrupt comes next.
    match request(libc::PTRACE_CONT, thread, libc::WSTOPSIG(status)) {
        Ok(()) => Ok(Seen::Moving),
        Err(source) if source.raw_os_error() == Some(libc::ESRCH) => Ok(Seen::Moving),
        Err(source) => Err(FreezeError::Refused {
            thread,
            doing: "PTRACE_CONT",
            source,
        }),
    }
}

/// A request without an address.
fn request(what: libc::c_uint, thread: pid_t, data: c_int) -> io::Result<()> {
    // SAFETY: these requests read and write no memory of ours.
    match unsafe { libc::ptrace(what, thread, 0_usize, data as usize) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_is_said() {
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let pid = Pid::from_child(&child);
        child.wait().expect("a child");
        let result = while_stopped(pid, || ());
        assert!(matches!(result, Err(FreezeError::Ended)), "{result:?}");
    }

    #[test]
    #[ignore = "needs the right to trace a child (root)"]
    fn kvm_a_process_is_stopped_and_let_go() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .expect("a child");
        let pid = Pid::from_child(&child);
        let number = pid.as_raw_nonzero().get();
        let state = while_stopped(pid, || status(number, "State:")).expect("stopped");
        assert!(state.starts_with('t'), "{state}");
        // It runs, or waits for a page.
        let state = status(number, "State:");
        assert!(!state.starts_with('t'), "{state}");
        assert_eq!(status(number, "TracerPid:"), "0");
        child.kill().expect("kill");
        child.wait().expect("a child");
    }
}
