//! Ends the machine at its time limit, or at Ctrl-C or SIGTERM.

use std::{
    io,
    sync::{
        Arc, OnceLock,
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

/// Whether the lab must end, for all who wait for something.
#[derive(Debug, Default)]
pub struct Stop(OnceLock<Stopped>);

impl Stop {
    /// Why it must end; `None`: it need not.
    pub fn why(&self) -> Option<Stopped> {
        self.0.get().copied()
    }

    /// From now on it must end; the first reason stays.
    pub fn set(&self, why: Stopped) {
        let _ = self.0.set(why);
    }
}

/// The time limit of one process, and of what is printed about it.
#[derive(Debug)]
pub struct Deadline {
    done: Sender<()>,
    thread: JoinHandle<()>,
}

impl Deadline {
    /// Sets `stop` and kills the process when `limit` is over or `cancel` is set.
    pub fn start(
        cancel: Arc<AtomicBool>,
        process: Pid,
        limit: Duration,
        stop: Arc<Stop>,
    ) -> io::Result<Self> {
        // A process id could belong to another process by then.
        let process = pidfd_open(process, PidfdFlags::empty())?;
        let end = Instant::now() + limit;
        let (done, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            let why = loop {
                let rest = end.saturating_duration_since(Instant::now());
                match ended.recv_timeout(rest.min(POLL)) {
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                if cancel.load(Ordering::Acquire) {
                    break Stopped::Interrupted;
                }
                if Instant::now() >= end {
                    break Stopped::Late;
                }
            };
            // First: who sees the process end must know why.
            stop.set(why);
            // What is still to be said may not take its time either.
            cancel.store(true, Ordering::Release);
            // It fails only if the process has ended.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        });
        Ok(Self { done, thread })
    }

    /// To be called when all is done.
    pub fn finish(self) {
        // It fails only if the time is over.
        let _ = self.done.send(());
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
