//! A command of the collector in the lab, whose output is sent to the host line by line.

use std::{
    io::{BufRead as _, BufReader, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::port::Port;
use crate::{
    lab::job::{Job, Message, WORK},
    program::ANALYZER_VARIABLE,
};

/// This program, as the lab's kernel started it.
const PROGRAM: &str = "/init";
/// Maximum size of a line in one message; a longer one is split.
const PIECE: u64 = 64 << 10;

/// The collector with these arguments, under the name that it has on the host.
pub fn collector(job: &Job, words: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .arg0(&job.program)
        .args(words)
        .env(ANALYZER_VARIABLE, &job.analyzer)
        .current_dir(WORK)
        .stdin(Stdio::null());
    command
}

/// Runs it to the end; its exit code.
pub fn run(job: &Job, words: &[String], port: &Port) -> anyhow::Result<u8> {
    start(job, words, port)?.wait()
}

/// A running command.
#[derive(Debug)]
pub struct Running {
    child: Child,
    readers: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// Starts it.
pub fn start(job: &Job, words: &[String], port: &Port) -> anyhow::Result<Running> {
    let mut child = collector(job, words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("while starting the command")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (for_stdout, for_stderr) = (port.clone(), port.clone());
    let readers = vec![
        thread::spawn(move || forward(stdout, &for_stdout, Message::Stdout)),
        thread::spawn(move || forward(stderr, &for_stderr, Message::Stderr)),
    ];
    Ok(Running { child, readers })
}

impl Running {
    /// Sends SIGTERM.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("while ending the command")
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until it has ended; its exit code.
    pub fn wait(mut self) -> anyhow::Result<u8> {
        for reader in self.readers {
            reader
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(code(self.child.wait()?))
    }
}

fn forward(
    pipe: Option<impl Read>,
    port: &Port,
    message: impl Fn(String) -> Message,
) -> anyhow::Result<()> {
    let mut pipe = BufReader::new(pipe.context("the command has no pipe")?);
    loop {
        let mut line = Vec::new();
        (&mut pipe).take(PIECE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        port.send(&message(String::from_utf8_lossy(&line).into_owned()))?;
    }
}

/// The exit code, as a shell has it: 128 and the number of the signal, if one ended the command.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
