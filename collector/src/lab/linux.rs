//! A Linux guest for the lab: QEMU with its libraries and firmware, the lab's own kernel once more,
//! and an initramfs with busybox that gives the shadow MMU a realistic load.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    initramfs::{Initramfs, PackError},
    job::{GUEST_DONE, GUEST_INITRAMFS, GUEST_KERNEL},
};

/// What QEMU's `pc` machine reads to start a kernel.
const FIRMWARE: &[&str] = &["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin"];
/// Of the guest's init, each CPU does this many rounds.
const ROUNDS: u32 = 60;

/// Why there is no Linux guest to be had.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// A tool could not be asked.
    #[error("while running {program}")]
    Run {
        /// Which.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a program with libraries.
    #[error("ldd does not know the libraries of {program}: {said}")]
    Libraries {
        /// QEMU.
        program: PathBuf,
        /// What ldd said.
        said: String,
    },
    /// A file of QEMU's firmware.
    #[error("QEMU's firmware {name} is in none of {folders:?}")]
    Firmware {
        /// The file.
        name: &'static str,
        /// Where QEMU looks.
        folders: Vec<PathBuf>,
    },
    /// No busybox that runs without libraries.
    #[error("there is no static busybox in PATH")]
    Busybox,
}

/// What is packed.
#[derive(Debug)]
pub struct LinuxGuest {
    /// QEMU.
    pub qemu: PathBuf,
    libraries: Vec<PathBuf>,
    firmware: Vec<PathBuf>,
    busybox: PathBuf,
}

impl LinuxGuest {
    /// Looks for everything on this machine.
    pub fn find(qemu: &Path) -> Result<Self, LinuxError> {
        let qemu = qemu.canonicalize().map_err(|source| LinuxError::Run {
            program: qemu.to_owned(),
            source,
        })?;
        let libraries = libraries(&qemu)?.ok_or_else(|| LinuxError::Libraries {
            program: qemu.clone(),
            said: "it has none".to_owned(),
        })?;
        let folders: Vec<PathBuf> = said(Command::new(&qemu).args(["-L", "help"]))?
            .0
            .lines()
            .map(PathBuf::from)
            .collect();
        let firmware = FIRMWARE
            .iter()
            .map(|&name| {
                let mut places = folders.iter().map(|folder| folder.join(name));
                places
                    .find(|place| place.is_file())
                    .ok_or_else(|| LinuxError::Firmware {
                        name,
                        folders: folders.clone(),
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            qemu,
            libraries,
            firmware,
            busybox: busybox()?,
        })
    }

    /// Where the packed QEMU finds its libraries.
    pub fn library_path(&self) -> String {
        let folders: BTreeSet<_> = self
            .libraries
            .iter()
            .filter_map(|library| library.parent()?.to_str())
            .collect();
        folders.into_iter().collect::<Vec<_>>().join(":")
    }

    /// Packs all of it; `kernel` is the image.
    pub fn pack<W: Write>(
        &self,
        archive: &mut Initramfs<W>,
        kernel: &Path,
        cpus: u16,
    ) -> Result<(), PackError> {
        let files = [&self.qemu].into_iter().chain(&self.libraries);
        for path in files.chain(&self.firmware) {
            archive.file(&path.to_string_lossy(), path)?;
        }
        archive.file(GUEST_KERNEL, kernel)?;
        archive.bytes(GUEST_INITRAMFS, &self.initramfs(cpus)?)
    }

    fn initramfs(&self, cpus: u16) -> Result<Vec<u8>, PackError> {
        let mut bytes = Vec::new();
        let mut archive = Initramfs::new(&mut bytes)?;
        archive.file("/bin/busybox", &self.busybox)?;
        archive.folder("/proc")?;
        archive.folder("/tmp")?;
        archive.program("/init", init(cpus).as_bytes())?;
        archive.finish()?;
        Ok(bytes)
    }
}

/// The guest's init: processes that come and go, memory that is mapped, written, copied and given
/// back, on every CPU; then power off.
fn init(cpus: u16) -> String {
    format!(
        "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
work() {{
    i=0
    while [ $i -lt {ROUNDS} ]; do
        busybox true
        echo $i | sort | cat >/dev/null
        i=$((i + 1))
    done
    dd if=/dev/zero of=/tmp/$1 bs=64k count=64 2>/dev/null
    md5sum /tmp/$1 && rm /tmp/$1
}}
for cpu in $(seq {cpus}); do work $cpu & done
wait
echo '{GUEST_DONE}'
poweroff -f
"
    )
}

/// A busybox in PATH that has no libraries.
fn busybox() -> Result<PathBuf, LinuxError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for folder in std::env::split_paths(&path) {
        let program = folder.join("busybox");
        // What is no program of this machine has no place here either: the next one may.
        if program.is_file() && matches!(libraries(&program), Ok(None)) {
            return Ok(program);
        }
    }
    Err(LinuxError::Busybox)
}

/// The libraries of a program and what loads them; nothing, if it is static.
fn libraries(program: &Path) -> Result<Option<Vec<PathBuf>>, LinuxError> {
    let (out, err) = said(Command::new("ldd").env("LC_ALL", "C").arg(program))?;
    if err.contains("not a dynamic executable") || out.contains("statically linked") {
        return Ok(None);
    }
    // `libc.so.6 => /lib/libc.so.6 (0x…)`, or `/lib64/ld-linux-x86-64.so.2 (0x…)`.
    let libraries: Vec<PathBuf> = out
        .lines()
        .filter_map(|line| {
            let place = line.rsplit("=> ").next()?.trim();
            let (path, _) = place.split_once(" (0x")?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect();
    if libraries.is_empty() || out.contains("not found") {
        return Err(LinuxError::Libraries {
            program: program.to_owned(),
            said: format!("{out}{err}"),
        });
    }
    Ok(Some(libraries))
}

/// Standard output and standard error of a tool.
fn said(command: &mut Command) -> Result<(String, String), LinuxError> {
    let output = command.output().map_err(|source| LinuxError::Run {
        program: command.get_program().into(),
        source,
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(&output.stdout), text(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_s_init_does_its_work_on_every_cpu() {
        let script = init(2);
        assert!(script.contains("for cpu in $(seq 2); do work $cpu & done\nwait\n"));
        assert!(script.ends_with(&format!("echo '{GUEST_DONE}'\npoweroff -f\n")));
    }
}
