//! Stops all threads of a process for a moment.
//!
//! A thread that `ptrace` seizes and interrupts leaves `KVM_RUN` with `EINTR`, as for a signal, and
//! waits. All threads are stopped, not only those of vCPUs: the others change memslots, free memory
//! and start vCPUs. A separate thread stops them: when it ends, for whatever reason, the kernel
//! detaches from all of them, so none stays stopped.

use std::{
    collections::BTreeSet,
    fs, io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use libc::{c_int, c_uint, pid_t};
use rustix::process::Pid;

/// Maximum time for the threads to stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Time between two checks of a thread that has not stopped.
const POLL: Duration = Duration::from_micros(50);
/// `PTRACE_EVENT_STOP`, as `waitpid` reports it.
const EVENT_STOP: c_int = libc::PTRACE_EVENT_STOP;

/// Why the threads were not stopped.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The process has ended.
    #[error("the process has ended")]
    Ended,
    /// Another tracer is attached.
    #[error(
        "thread {thread} is already traced by process {tracer} (a debugger, or another collector)"
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
        /// The request that failed.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// It is in the kernel and does not leave it.
    #[error("thread {thread} did not stop within {} s", STOP_LIMIT.as_secs())]
    Late {
        /// The thread.
        thread: pid_t,
    },
}

/// Runs `work` while every thread of the process is stopped.
pub fn while_stopped<T: Send>(
    process: Pid,
    work: impl FnOnce() -> T + Send,
) -> Result<T, FreezeError> {
    let process = process.as_raw_nonzero().get();
    let stopped = || {
        let threads = stop(process)?;
        let result = work();
        for thread in threads {
            // It fails only for a thread that was killed meanwhile.
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
    let deadline = Instant::now() + STOP_LIMIT;
    let mut stopped = BTreeSet::new();
    let mut ended = BTreeSet::new();
    loop {
        let mut running = BTreeSet::new();
        let mut any_new = false;
        for thread in threads(process)? {
            if stopped.contains(&thread) || ended.contains(&thread) {
                continue;
            }
            // Even one that has ended may have started another one before.
            any_new = true;
            let set = match interrupt(thread, deadline)? {
                true => &mut running,
                false => &mut ended,
            };
            set.insert(thread);
        }
        if !any_new {
            return match stopped.is_empty() {
                true => Err(FreezeError::Ended),
                false => Ok(stopped),
            };
        }
        if Instant::now() > deadline {
            // Its threads keep starting new ones.
            return Err(FreezeError::Late { thread: process });
        }
        // Polled together: the main thread of a process that is killed is reported last.
        while !running.is_empty() {
            let mut still_running = BTreeSet::new();
            for thread in running {
                match poll(thread)? {
                    ThreadState::Running => {
                        still_running.insert(thread);
                    }
                    ThreadState::Stopped => {
                        stopped.insert(thread);
                    }
                    ThreadState::Ended => {}
                }
            }
            running = still_running;
            if let Some(&thread) = running.first()
                && Instant::now() > deadline
            {
                return Err(FreezeError::Late { thread });
            }
            if !running.is_empty() {
                thread::sleep(POLL);
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

/// Asks a thread to stop; false if it has ended. Waits for another collector to detach: both begin
/// with the main thread, so that neither holds a thread while it waits for the other.
fn interrupt(thread: pid_t, deadline: Instant) -> Result<bool, FreezeError> {
    let refused = |doing, source| FreezeError::Refused {
        thread,
        doing,
        source,
    };
    let mut had_no_tracer = false;
    while let Err(source) = request(libc::PTRACE_SEIZE, thread, 0) {
        if source.raw_os_error() == Some(libc::ESRCH) || status(thread, "State:").starts_with('Z') {
            return Ok(false);
        }
        match status(thread, "TracerPid:").parse() {
            // Its tracer may have detached since.
            Ok(0) if !had_no_tracer => had_no_tracer = true,
            Ok(0) | Err(_) => return Err(refused("PTRACE_SEIZE", source)),
            Ok(tracer) if Instant::now() > deadline => {
                return Err(FreezeError::Traced { thread, tracer });
            }
            Ok(_) => {
                had_no_tracer = false;
                thread::sleep(POLL);
            }
        }
    }
    match request(libc::PTRACE_INTERRUPT, thread, 0) {
        Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
            Err(refused("PTRACE_INTERRUPT", source))
        }
        // A thread that was killed meanwhile is reported by `waitpid`.
        _ => Ok(true),
    }
}

/// A value in `/proc/THREAD/status`; empty if there is none.
fn status(thread: pid_t, name: &str) -> String {
    let path: PathBuf = format!("/proc/{thread}/status").into();
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map_or_else(String::new, |value| value.trim().to_owned())
}

enum ThreadState {
    Running,
    Stopped,
    Ended,
}

/// The state of a thread after the request to stop.
fn poll(thread: pid_t) -> Result<ThreadState, FreezeError> {
    let mut status: c_int = 0;
    // SAFETY: `status` outlives the call.
    let found = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL | libc::WNOHANG) };
    if found == 0 {
        return Ok(ThreadState::Running);
    }
    if found < 0 || !libc::WIFSTOPPED(status) {
        return Ok(ThreadState::Ended);
    }
    if status >> 16 == EVENT_STOP {
        return Ok(ThreadState::Stopped);
    }
    // It stopped to deliver a signal, which it must get. The requested stop comes next.
    match request(
        libc::PTRACE_CONT,
        thread,
        libc::WSTOPSIG(status).cast_unsigned(),
    ) {
        Ok(()) => Ok(ThreadState::Running),
        Err(source) if source.raw_os_error() == Some(libc::ESRCH) => Ok(ThreadState::Running),
        Err(source) => Err(FreezeError::Refused {
            thread,
            doing: "PTRACE_CONT",
            source,
        }),
    }
}

/// A `ptrace` request without an address.
fn request(what: c_uint, thread: pid_t, data: c_uint) -> io::Result<()> {
    // SAFETY: these requests access no memory of ours.
    match unsafe { libc::ptrace(what, thread, 0_usize, data as usize) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let pid = Pid::from_child(&child);
        child.wait().expect("a child");
        let result = while_stopped(pid, || ());
        assert!(matches!(result, Err(FreezeError::Ended)), "{result:?}");
    }

    #[test]
    #[ignore = "needs the right to trace a child (root)"]
    fn kvm_a_process_is_stopped_and_resumed() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .expect("a child");
        let pid = Pid::from_child(&child);
        let number = pid.as_raw_nonzero().get();
        let state = while_stopped(pid, || status(number, "State:")).expect("stopped");
        assert!(state.starts_with('t'), "{state}");
        // Running, or waiting for a page.
        let state = status(number, "State:");
        assert!(!state.starts_with('t'), "{state}");
        assert_eq!(status(number, "TracerPid:"), "0");
        child.kill().expect("kill");
        child.wait().expect("a child");
    }
}
