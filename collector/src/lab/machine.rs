//! QEMU: an emulated AMD machine with SVM, run without root.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use rustix::process::Signal;

use super::job::PORT;

/// Its usual name.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// Lines of the console that are kept for an error message.
const TAIL_LINES: usize = 25;
/// A longer line is split.
const LINE_BYTES: u64 = 4096;

/// Why the machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// No QEMU.
    #[error("{0} is in no directory of PATH")]
    NotFound(&'static str),
    /// QEMU could not be started.
    #[error("while starting {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Finds QEMU in PATH.
pub fn find() -> Result<PathBuf, MachineError> {
    std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .map(|directory| directory.join(PROGRAM))
        .find(|program| program.is_file())
        .ok_or(MachineError::NotFound(PROGRAM))
}

/// The first line of `--version`, or the error.
pub fn version(program: &Path) -> String {
    match Command::new(program).arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .unwrap_or("no version")
            .to_owned(),
        Err(error) => error.to_string(),
    }
}

/// What the machine is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// QEMU.
    pub qemu: &'a Path,
    /// The kernel's image.
    pub kernel: &'a Path,
    /// The kernel's initramfs.
    pub initramfs: &'a Path,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Number of CPUs.
    pub cpus: u16,
    /// Memory, MiB.
    pub memory_mib: u32,
}

/// A running machine; dropping it kills it.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    tail: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Machine {
    /// Starts it. The stream is connected to its init; `show` gets each line of the console and of
    /// QEMU's own output.
    pub fn start(
        parts: &Parts<'_>,
        show: impl Fn(&str) + Clone + Send + 'static,
    ) -> Result<(Self, UnixStream), MachineError> {
        let failed = |source| MachineError::Start {
            program: parts.qemu.to_owned(),
            source,
        };
        let (here, there) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(parts.qemu);
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-accel", "tcg", "-cpu", "max,+svm,+npt"])
            .args(["-smp", &parts.cpus.to_string()])
            .args(["-m", &parts.memory_mib.to_string()])
            .arg("-kernel")
            .arg(parts.kernel)
            .arg("-initrd")
            .arg(parts.initramfs)
            .args(["-append", parts.command_line])
            .args(["-chardev", "file,id=console,path=/proc/self/fd/1"])
            .args(["-serial", "chardev:console"])
            // Standard input is the socket.
            .args(["-chardev", "socket,id=port,fd=0"])
            .args(["-device", "virtio-serial-pci"])
            .args([
                "-device",
                &format!("virtserialport,chardev=port,name={PORT}"),
            ])
            .stdin(OwnedFd::from(there))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: between fork and exec only one system call is made.
        unsafe { command.pre_exec(die_with_parent) };
        let mut qemu = command.spawn().map_err(failed)?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            qemu.stdout.take().map(|pipe| Box::new(pipe) as _),
            qemu.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        let readers = outputs
            .into_iter()
            .flatten()
            .map(|pipe| {
                let (tail, show) = (Arc::clone(&tail), show.clone());
                thread::spawn(move || lines(pipe, |line| keep(&tail, line, &show)))
            })
            .collect();
        let machine = Self {
            qemu,
            tail,
            readers,
        };
        Ok((machine, here))
    }

    /// QEMU's process.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.qemu)
    }

    /// Kills QEMU.
    pub fn kill(&mut self) {
        // It fails only if QEMU has ended.
        let _ = self.qemu.kill();
    }

    /// Waits until it is off; the last lines of its console.
    pub fn wait(mut self) -> std::io::Result<Vec<String>> {
        self.qemu.wait()?;
        for reader in self.readers.drain(..) {
            // If it panicked, only the last lines are missing.
            let _ = reader.join();
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(tail.iter().cloned().collect())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        // It fails only after `wait`.
        let _ = self.qemu.wait();
    }
}

/// If the collector is killed, the lab ends too.
fn die_with_parent() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

fn keep(tail: &Mutex<VecDeque<String>>, line: &str, show: &impl Fn(&str)) {
    show(line);
    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(line.to_owned());
}

/// Each line of a pipe until it is closed, without the control characters of a terminal.
fn lines(pipe: impl Read, mut each: impl FnMut(&str)) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let mut line = Vec::new();
        match (&mut pipe).take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text: String = text
            .trim_end()
            .chars()
            .filter(|c| !c.is_control() || *c == '\t')
            .collect();
        if !text.is_empty() {
            each(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_lines_have_no_control_characters_and_a_maximum_length() {
        let mut lengths = Vec::new();
        let long = "x".repeat(5000);
        let text = format!("\x1b[2Jone\r\n\r\ntwo\n{long}");
        lines(text.as_bytes(), |line| lengths.push(line.len()));
        assert_eq!(lengths, ["[2Jone".len(), 3, 4096, 904]);
    }
}
