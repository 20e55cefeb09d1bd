//! Ends the machine when it takes too long, or when the person who started it has had enough.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Why a machine was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// It took too long.
    Late,
}

enum Event {
    Interrupted,
    Done,
}

/// A watch over one process.
#[derive(Debug)]
pub struct Watch {
    events: Sender<Event>,
    thread: JoinHandle<Option<Stopped>>,
}

impl Watch {
    /// Begins; there is one for the whole program, since there is one Ctrl-C.
    pub fn start(process: Pid, limit: Duration) -> anyhow::Result<Self> {
        // Not the number, which another process could have by then.
        let process = pidfd_open(process, PidfdFlags::empty()).map_err(io::Error::from)?;
        let (events, received) = mpsc::channel();
        let interrupted = events.clone();
        ctrlc::set_handler(move || {
            // If nobody listens any more, the machine is off.
            let _ = interrupted.send(Event::Interrupted);
        })?;
        let thread = thread::spawn(move || {
            let why = match received.recv_timeout(limit) {
                Ok(Event::Interrupted) => Stopped::Interrupted,
                Err(RecvTimeoutError::Timeout) => Stopped::Late,
                Ok(Event::Done) | Err(RecvTimeoutError::Disconnected) => return None,
            };
            // It fails only if the process has ended by itself.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            Some(why)
        });
        Ok(Self { events, thread })
    }

    /// The process has ended: was it made to?
    pub fn finish(self) -> Option<Stopped> {
        // If nobody listens any more, it was.
        let _ = self.events.send(Event::Done);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
