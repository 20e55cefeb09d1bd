//! The emulated machine, run without root.
//!
//! ```text
//! mod    the emulator's process: start, console, end
//! qemu   QEMU, for AMD
//! bochs  Bochs, for Intel
//! boot   puts a kernel into Bochs' memory
//! ```

mod bochs;
mod boot;
mod qemu;

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read, Write},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use rustix::process::Signal;

use super::{job, vendor::Vendor};
pub use bochs::{Bochs, BochsError};

/// Lines of the console that are kept for an error message.
const TAIL_LINES: usize = 25;
/// A longer line is split.
const LINE_BYTES: u64 = 4096;

/// Why the machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// No emulator.
    #[error("{0} is in no directory of PATH")]
    NotFound(&'static str),
    /// The emulator could not be started.
    #[error("while starting {program}")]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Bochs.
    #[error(transparent)]
    Bochs(#[from] BochsError),
}

fn start_error(program: &Path) -> impl Fn(std::io::Error) -> MachineError {
    |source| MachineError::Start {
        program: program.to_owned(),
        source,
    }
}

/// Finds a program in PATH.
fn in_path(name: &'static str) -> Result<PathBuf, MachineError> {
    std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .ok_or(MachineError::NotFound(name))
}

/// Finds QEMU in PATH.
pub fn qemu() -> Result<PathBuf, MachineError> {
    in_path(qemu::PROGRAM)
}

/// The program that emulates the machine.
#[derive(Debug)]
pub enum Emulator {
    /// QEMU.
    Qemu(PathBuf),
    /// Bochs.
    Bochs(Bochs),
}

impl Emulator {
    /// Finds the one for this vendor: the given program, or the usual one in PATH.
    pub fn find(vendor: Vendor, program: Option<&Path>) -> Result<Self, MachineError> {
        let given = program.map(Path::to_owned);
        Ok(match vendor {
            Vendor::Amd => Emulator::Qemu(given.map_or_else(qemu, Ok)?),
            Vendor::Intel => {
                let program = given.map_or_else(|| in_path(bochs::PROGRAM), Ok)?;
                Emulator::Bochs(Bochs::find(program)?)
            }
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Emulator::Qemu(_) => "QEMU",
            Emulator::Bochs(_) => "Bochs",
        }
    }

    /// Its version, as it prints it.
    pub fn version(&self) -> String {
        match self {
            Emulator::Qemu(program) => qemu::version(program),
            Emulator::Bochs(bochs) => bochs.version.clone(),
        }
    }

    /// The device through which the lab sends its messages.
    pub fn port(&self) -> job::Port {
        match self {
            Emulator::Qemu(_) => job::Port::Virtio,
            Emulator::Bochs(_) => job::Port::Parallel,
        }
    }

    /// The most CPUs and the most MiB of memory that its machine has.
    pub fn limits(&self) -> Option<(u16, u32)> {
        match self {
            Emulator::Qemu(_) => None,
            Emulator::Bochs(_) => Some((1, bochs::MEMORY_MIB)),
        }
    }

    /// What the kernel's command line needs for this machine.
    pub fn command_line(&self) -> &'static str {
        match self {
            Emulator::Qemu(_) => "",
            Emulator::Bochs(_) => bochs::COMMAND_LINE,
        }
    }
}

/// What the machine is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// A directory for the emulator's files.
    pub directory: &'a Path,
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

/// The connection to the lab's init.
pub struct Link {
    /// Its messages.
    pub from: Box<dyn Read>,
    /// Where the acknowledgement is written.
    pub to: Box<dyn Write>,
}

/// A running machine; dropping it kills it.
#[derive(Debug)]
pub struct Machine {
    emulator: Child,
    tail: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Machine {
    /// Starts it. `show` gets each line of the console and of the emulator's own output.
    pub fn start(
        emulator: &Emulator,
        parts: &Parts<'_>,
        show: impl Fn(&str) + Clone + Send + 'static,
    ) -> Result<(Self, Link), MachineError> {
        let (mut command, link) = match emulator {
            Emulator::Qemu(program) => qemu::command(program, parts)?,
            Emulator::Bochs(bochs) => bochs.command(parts)?,
        };
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec only one system call is made.
        unsafe { command.pre_exec(die_with_parent) };
        let program = PathBuf::from(command.get_program());
        let mut emulator = command.spawn().map_err(start_error(&program))?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            emulator.stdout.take().map(|pipe| Box::new(pipe) as _),
            emulator.stderr.take().map(|pipe| Box::new(pipe) as _),
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
            emulator,
            tail,
            readers,
        };
        Ok((machine, link))
    }

    /// The emulator's process.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.emulator)
    }

    /// Kills the emulator.
    pub fn kill(&mut self) {
        // It fails only if it has ended.
        let _ = self.emulator.kill();
    }

    /// Waits until it is off; the last lines of its console.
    pub fn wait(mut self) -> std::io::Result<Vec<String>> {
        self.emulator.wait()?;
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
        let _ = self.emulator.wait();
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
