//! A command of the collector inside of the lab, its words passed on as they come.

use std::{
    io::{BufRead as _, BufReader, Read},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::port::Port;
use crate::lab::job::{Message, WORK};

/// This program, as the lab's kernel started it.
const PROGRAM: &str = "/init";
/// Longest piece of a line in one message.
const PIECE: u64 = 64 << 10;

/// The collector with these arguments.
pub fn collector(words: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(words).current_dir(WORK).stdin(Stdio::null());
    command
}

/// Runs it to the end; its exit code.
pub fn run(words: &[String], port: &Port) -> anyhow::Result<u8> {
    start(words, port)?.wait()
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    readers: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// Starts it.
pub fn start(words: &[String], port: &Port) -> anyhow::Result<Running> {
    let mut child = collector(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("while starting the command")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (here, there) = (port.clone(), port.clone());
    let readers = vec![
        thread::spawn(move || pass_on(stdout, &here, Message::Stdout)),
        thread::spawn(move || pass_on(stderr, &there, Message::Stderr)),
    ];
    Ok(Running { child, readers })
}

impl Running {
    /// Asks it to end.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("while ending the command")
    }

    /// Whether it has.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until it has; its exit code.
    pub fn wait(mut self) -> anyhow::Result<u8> {
        for reader in self.readers {
            reader
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(code(self.child.wait()?))
    }
}

fn pass_on(
    pipe: Option<impl Read>,
    port: &Port,
    message: impl Fn(String) -> Message,
) -> anyhow::Result<()> {
    let mut pipe = BufReader::new(pipe.context("a pipe that was asked for")?);
    loop {
        let mut line = Vec::new();
        (&mut pipe).take(PIECE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        port.send(&message(String::from_utf8_lossy(&line).into_owned()))?;
    }
}

/// As a shell counts: a signal is 128 and its number.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
