//! The lab's guest hypervisor (L1): a Linux guest on QEMU that runs the built-in VMM, whose guest
//! is nested (L2). `attach` records L1's VM, from the first small L2 on.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use super::{
    linux::{self, Attached},
    port::Port,
};
use crate::{
    lab::job::{GUEST_ENDED, GUEST_READY, Job, Linux},
    terminal,
};

/// Runs the workload and records it to `output`, if the job says so; the exit code of `attach`.
pub fn run(job: &Job, linux: &Linux, output: Option<&Path>, port: &Port) -> anyhow::Result<u8> {
    let mut hypervisor = Hypervisor::start(linux)?;
    hypervisor.until(GUEST_READY)?;
    let recording = match &linux.attach {
        None => None,
        Some(words) => match linux::attach(job, words, hypervisor.qemu.id(), output, port)? {
            Attached::Yes(recording) => Some(recording),
            // It has printed its error.
            Attached::No(code) => return Ok(code),
        },
    };
    hypervisor.go()?;
    let ended = hypervisor.until(GUEST_ENDED);
    // L1 waits: the tables are copied as L2 left them.
    let code = match recording {
        Some(recording) => {
            recording.terminate()?;
            recording.wait()?
        }
        None => 0,
    };
    let ended = ended?;
    ensure!(
        ended.trim() == "0",
        "the workload in the nested guest failed: its command ended with {}",
        ended.trim()
    );
    Ok(code)
}

/// QEMU, and the console of the guest hypervisor.
struct Hypervisor {
    qemu: Child,
    console: BufReader<UnixStream>,
}

impl Hypervisor {
    fn start(linux: &Linux) -> anyhow::Result<Self> {
        let (here, there) = UnixStream::pair()?;
        let qemu = linux::qemu(linux)
            .args(["-cpu", "host", "-no-reboot"])
            // Standard input is the socket.
            .args(["-chardev", "socket,id=console,fd=0"])
            .args(["-serial", "chardev:console"])
            .stdin(OwnedFd::from(there))
            .stdout(Stdio::inherit())
            .spawn()
            .with_context(|| format!("while starting {} in the lab", linux.qemu.display()))?;
        Ok(Self {
            qemu,
            console: BufReader::new(here),
        })
    }

    /// Lets it run the workload.
    fn go(&mut self) -> anyhow::Result<()> {
        let console = self.console.get_mut();
        console
            .write_all(b"\n")
            .context("while writing to the guest hypervisor's console")
    }

    /// Copies its console to the lab's until a line begins with `words`; what follows them there.
    fn until(&mut self, words: &str) -> anyhow::Result<String> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self.console.read_until(b'\n', &mut line);
            if read.context("while reading the guest hypervisor's console")? == 0 {
                bail!("the guest hypervisor ended before its console said '{words}'");
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            terminal::show(format_args!("L1: {text}"));
            if let Some(rest) = text.strip_prefix(words) {
                return Ok(rest.to_owned());
            }
        }
    }
}

impl Drop for Hypervisor {
    fn drop(&mut self) {
        // Both fail only if QEMU has ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
