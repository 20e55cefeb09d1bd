//! Ends the machine at its time limit, or at Ctrl-C or SIGTERM.

use std::{
    io,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Why the machine was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// The time limit is over.
    Late,
}

#[derive(Debug)]
enum Event {
    Interrupted,
    Done,
}

/// Ctrl-C and SIGTERM, also before the machine starts: temporary files are deleted in any case.
#[derive(Debug)]
pub struct Signals {
    events: Sender<Event>,
    received: Receiver<Event>,
}

impl Signals {
    /// Installs the process's handler; can be called once.
    pub fn listen() -> anyhow::Result<Self> {
        let (events, received) = mpsc::channel();
        let interrupted = events.clone();
        ctrlc::set_handler(move || {
            // It fails only when the machine has ended.
            let _ = interrupted.send(Event::Interrupted);
        })?;
        Ok(Self { events, received })
    }
}

/// The time limit of one process.
#[derive(Debug)]
pub struct Deadline {
    events: Sender<Event>,
    thread: JoinHandle<Option<Stopped>>,
}

impl Deadline {
    /// Kills the process when `limit` is over or a signal arrives.
    pub fn start(signals: Signals, process: Pid, limit: Duration) -> io::Result<Self> {
        // A process id could belong to another process by then.
        let process = pidfd_open(process, PidfdFlags::empty())?;
        let Signals { events, received } = signals;
        let thread = thread::spawn(move || {
            let why = match received.recv_timeout(limit) {
                Ok(Event::Interrupted) => Stopped::Interrupted,
                Err(RecvTimeoutError::Timeout) => Stopped::Late,
                Ok(Event::Done) | Err(RecvTimeoutError::Disconnected) => return None,
            };
            // It fails only if the process has ended.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            Some(why)
        });
        Ok(Self { events, thread })
    }

    /// To be called when the process has ended; why it was killed, if it was.
    pub fn finish(self) -> Option<Stopped> {
        // It fails only if the process was killed.
        let _ = self.events.send(Event::Done);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
