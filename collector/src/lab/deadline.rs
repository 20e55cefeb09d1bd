//! Ends the machine at its time limit, or at Ctrl-C or SIGTERM.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How soon a request to stop is noticed.
const POLL: Duration = Duration::from_millis(50);

/// Why the machine was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// The time limit is over.
    Late,
}

/// The time limit of one process.
#[derive(Debug)]
pub struct Deadline {
    done: Sender<()>,
    thread: JoinHandle<Option<Stopped>>,
}

impl Deadline {
    /// Kills the process when `limit` is over or `cancel` is set.
    pub fn start(cancel: Arc<AtomicBool>, process: Pid, limit: Duration) -> io::Result<Self> {
        // A process id could belong to another process by then.
        let process = pidfd_open(process, PidfdFlags::empty())?;
        let end = Instant::now() + limit;
        let (done, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            let why = loop {
                let rest = end.saturating_duration_since(Instant::now());
                match ended.recv_timeout(rest.min(POLL)) {
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                if cancel.load(Ordering::Acquire) {
                    break Stopped::Interrupted;
                }
                if Instant::now() >= end {
                    break Stopped::Late;
                }
            };
            // It fails only if the process has ended.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            Some(why)
        });
        Ok(Self { done, thread })
    }

    /// To be called when the process has ended; why it was killed, if it was.
    pub fn finish(self) -> Option<Stopped> {
        // It fails only if the process was killed.
        let _ = self.done.send(());
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
