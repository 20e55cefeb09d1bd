//! A command of the collector inside of the lab, its words passed on as they come.

use std::{
    io::{BufRead as _, BufReader, Read},
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitStatus, Stdio},
    thread,
};

use anyhow::Context as _;

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
    let mut child = collector(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("while starting the command")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let stdout = scope.spawn(|| pass_on(stdout, port, Message::Stdout));
        let stderr = scope.spawn(|| pass_on(stderr, port, Message::Stderr));
        for thread in [stdout, stderr] {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        anyhow::Ok(())
    })?;
    Ok(code(child.wait()?))
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
