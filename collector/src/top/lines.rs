//! Looks as lines on standard output: a pipe that nobody may read, or a terminal that was stopped.
//!
//! A thread of its own writes them. It may wait for ever, whoever is asked to end does not. Until a
//! look is written there is no other one: the next is over a longer time.

use std::{
    io::{self, Write as _},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};

use super::screen::Wish;
use crate::privileges;

/// How long a reader may take for the last look once the program is asked to end.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(10);

/// Standard output.
#[derive(Debug)]
pub struct Lines {
    looks: Sender<String>,
    written: Receiver<()>,
    thread: JoinHandle<io::Result<()>>,
    /// A look is being written.
    busy: bool,
}

impl Lines {
    /// Nothing is written yet.
    pub fn open() -> anyhow::Result<Self> {
        let (looks, texts) = mpsc::channel();
        let (done, written) = mpsc::channel();
        let write = move || {
            for text in texts {
                let text: String = text;
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()?;
                // It fails only where nobody asks any more.
                let _ = done.send(());
            }
            Ok(())
        };
        // A thread has the capabilities of the one that starts it: this one needs none.
        let thread = privileges::without(|| thread::spawn(write))?;
        Ok(Self {
            looks,
            written,
            thread,
            busy: false,
        })
    }

    /// The look before is written.
    pub fn is_free(&self) -> bool {
        !self.busy
    }

    /// Begins to write a look.
    pub fn show(&mut self, text: String) {
        // Where the thread has ended, `work` finds out why.
        let _ = self.looks.send(text);
        self.busy = true;
    }

    /// Takes note of what is written. Where nothing can be any more, [`Lines::close`] says why.
    pub fn work(&mut self) -> Wish {
        match self.written.try_recv() {
            Ok(()) => self.busy = false,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Wish::Quit,
        }
        Wish::Stay
    }

    /// Waits until all is written. Once `cancel` is set that may not take long.
    pub fn close(mut self, cancel: &AtomicBool) -> anyhow::Result<()> {
        let mut asked = None;
        while self.busy && self.work() == Wish::Stay {
            if cancel.load(Ordering::Acquire) {
                let since: &Instant = asked.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE {
                    bail!("nobody reads standard output: the last look is not all there");
                }
            }
            thread::sleep(PAUSE);
        }
        drop(self.looks);
        match self.thread.join() {
            Ok(written) => written.context("while writing to standard output"),
            Err(_) => Err(anyhow!("the thread that writes looks panicked")),
        }
    }
}
