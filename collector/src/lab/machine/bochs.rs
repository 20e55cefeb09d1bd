//! Bochs: an emulated Intel machine with VMX.

use std::{
    fs,
    io::{self, PipeReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    Link, MachineError, Parts,
    boot::{self, BootError, Images},
    start_error,
};
use crate::lab::vmlinux::{Vmlinux, VmlinuxError};

/// Its usual name.
pub const PROGRAM: &str = "bochs";
/// A CPU with VMX, and how Bochs names it.
const CPU: &str = "corei7_haswell_4770";
/// Its BIOS.
const BIOS: &str = "BIOS-bochs-latest";
/// Where packages and Bochs' own installation put it.
const SHARE: [&str; 2] = ["/usr/share/bochs", "/usr/local/share/bochs"];
/// The most memory that it gives a machine.
pub const MEMORY_MIB: u32 = 2048;
/// Instructions in a second of the machine's time. It has no other clock: a machine that waits for
/// nothing costs the host little, and one that works takes as long as it takes.
pub const INSTRUCTIONS_PER_SECOND: u32 = 50_000_000;
/// Nothing to calibrate, since the clock is exact, and no mitigations, which only cost time here.
pub const COMMAND_LINE: &str = " lpj=100000 tsc=reliable mitigations=off";

/// Why Bochs cannot run the lab.
#[derive(Debug, thiserror::Error)]
pub enum BochsError {
    /// It could not be asked for its version.
    #[error("while running {program} --help cpu")]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Its CPUs have no VMX.
    #[error("{version} does not emulate the CPU {CPU}, which has VMX")]
    NoCpu {
        /// What it prints of itself.
        version: String,
    },
    /// The BIOS is missing.
    #[error("Bochs' {BIOS} is in none of {directories:?}")]
    NoBios {
        /// Where it was searched.
        directories: Vec<PathBuf>,
    },
    /// The kernel.
    #[error("in the kernel's image")]
    Kernel(#[from] VmlinuxError),
    /// The memory.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A file could not be read or written.
    #[error("while preparing Bochs")]
    Io(#[from] io::Error),
}

/// Bochs on this machine.
#[derive(Debug)]
pub struct Bochs {
    program: PathBuf,
    /// What it prints of itself.
    pub version: String,
    /// The packaged one starts in its debugger.
    debugger: bool,
    bios: PathBuf,
}

impl Bochs {
    /// Checks that the program can run the lab.
    pub fn find(program: PathBuf) -> Result<Self, BochsError> {
        let ask = |words: &[&str]| match Command::new(&program).args(words).output() {
            Ok(output) => Ok([output.stdout, output.stderr].map(|out| {
                // Which of them it uses depends on its version.
                String::from_utf8_lossy(&out).into_owned()
            })),
            Err(source) => Err(BochsError::Run {
                program: program.clone(),
                source,
            }),
        };
        let text = ask(&["--help", "cpu"])?.concat();
        let version = version(&text);
        if !text.lines().any(|line| line.trim() == CPU) {
            return Err(BochsError::NoCpu { version });
        }
        let debugger = ask(&["--help"])?.concat().contains("-rc filename");
        let bios = bios()?;
        Ok(Self {
            program,
            version,
            debugger,
            bios,
        })
    }

    /// The command that runs it, and the lab's stream. Standard output is the console.
    pub fn command(&self, parts: &Parts<'_>) -> Result<(Command, Link), MachineError> {
        let failed = start_error(&self.program);
        self.prepare(parts)?;
        let (from, to) = io::pipe().map_err(&failed)?;
        let mut command = Command::new(&self.program);
        command
            .args(["-q", "-f", "bochsrc"])
            .current_dir(parts.directory)
            // The text display's terminal, which nobody reads: what it prints must stay below the
            // few KiB that the kernel keeps, or Bochs stops. This one cannot switch a cursor on and
            // off.
            .env("TERM", "ansi")
            // Standard input is the pipe to which the parallel port writes.
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(to)));
        if self.debugger {
            command.args(["-rc", "commands"]);
        }
        Ok((command, link(from)))
    }

    /// Writes what Bochs reads when it starts. The names are relative: its configuration has no
    /// quotes for a path with a comma.
    fn prepare(&self, parts: &Parts<'_>) -> Result<(), BochsError> {
        let kernel = Vmlinux::of(&fs::read(parts.kernel)?)?;
        let (line, memory) = (parts.command_line, parts.memory_mib);
        let initramfs_bytes = fs::metadata(parts.initramfs)?.len();
        let images = Images::new(&kernel, initramfs_bytes, line, memory)?;
        boot::write_disk(&parts.directory.join("disk"), &kernel, parts.initramfs)?;
        let write = |name: &str, bytes: &[u8]| fs::write(parts.directory.join(name), bytes);
        write("rom", &images.rom)?;
        write("boot", &images.boot)?;
        write("commands", b"c\n")?;
        std::os::unix::fs::symlink(&self.bios, parts.directory.join("bios"))?;
        write("bochsrc", self.configuration(memory).as_bytes())?;
        Ok(())
    }

    fn configuration(&self, memory_mib: u32) -> String {
        // A build with the debugger gives the text display a terminal of its own. There it would
        // print a number every second.
        let display = if self.debugger {
            "term, options=\"hideIPS\""
        } else {
            "nogui"
        };
        let boot = boot::BOOT;
        format!(
            "config_interface: textconfig
display_library: {display}
plugin_ctrl: speaker=0
romimage: file=bios
vgaromimage: file=rom
optramimage1: file=boot, address={boot:#x}
ata0-master: type=disk, path=disk, mode=flat
memory: guest={memory_mib}, host={memory_mib}
cpu: model={CPU}, count=1, ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0, \
             ignore_bad_msrs=1
clock: sync=none
com1: enabled=1, mode=file, dev=/proc/self/fd/1
parport1: enabled=1, file=/proc/self/fd/0
log: -
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"
        )
    }
}

fn link(from: PipeReader) -> Link {
    Link {
        from: Box::new(from),
        // A byte has left when the machine's instruction that wrote it is done.
        to: Box::new(io::sink()),
    }
}

/// The line with its version, among those that its plugins print.
fn version(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| line.starts_with("Bochs x86 Emulator"));
    line.unwrap_or("this Bochs, which prints no version,")
        .to_owned()
}

/// Its BIOS. Another one would not find the ROM where it is.
fn bios() -> Result<PathBuf, BochsError> {
    let share = std::env::var_os("BXSHARE").map(PathBuf::from);
    let directories: Vec<_> = share.into_iter().chain(SHARE.map(PathBuf::from)).collect();
    let mut places = directories.iter().map(|directory| directory.join(BIOS));
    let found = places.find(|place| place.is_file());
    found.map_or(Err(BochsError::NoBios { directories }), |place: PathBuf| {
        Ok(absolute(&place))
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_between_other_lines() {
        let text = "000i[ ] LTDL\n====\n       Bochs x86 Emulator 2.7\n   Built from SVN";
        assert_eq!(version(text), "Bochs x86 Emulator 2.7");
        assert!(version("").contains("no version"));
    }
}
