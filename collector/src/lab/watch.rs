//! Ends the machine when it takes too long, or when the person who started it has had enough.

use std::{
    io,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
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

#[derive(Debug)]
enum Event {
    Interrupted,
    Done,
}

/// Ctrl-C and SIGTERM from here on, also before there is a machine: what was made by then is cleared
/// away.
#[derive(Debug)]
pub struct Signals {
    events: Sender<Event>,
    received: Receiver<Event>,
}

impl Signals {
    /// There is one for the whole program, since there is one Ctrl-C.
    pub fn listen() -> anyhow::Result<Self> {
        let (events, received) = mpsc::channel();
        let interrupted = events.clone();
        ctrlc::set_handler(move || {
            // If nobody listens any more, the machine is off.
            let _ = interrupted.send(Event::Interrupted);
        })?;
        Ok(Self { events, received })
    }
}

/// A watch over one process.
#[derive(Debug)]
pub struct Watch {
    events: Sender<Event>,
    thread: JoinHandle<Option<Stopped>>,
}

impl Watch {
    /// Begins.
    pub fn start(signals: Signals, process: Pid, limit: Duration) -> io::Result<Self> {
        // Not the number, which another process could have by then.
        let process = pidfd_open(process, PidfdFlags::empty())?;
        let Signals { events, received } = signals;
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
