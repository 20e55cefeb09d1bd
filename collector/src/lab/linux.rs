//! A Linux guest for the lab: QEMU with its libraries and firmware, the lab's kernel again, and an
//! initramfs with busybox that puts a realistic load on the shadow MMU.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Linux,
    initramfs::{Initramfs, PackError},
    job::{
        self, GUEST_COLLECTOR, GUEST_DONE, GUEST_ENDED, GUEST_INITRAMFS, GUEST_KERNEL, GUEST_READY,
        MODULES,
    },
    modules::Loadable,
};
use crate::program;

/// Firmware that QEMU's `pc` machine needs to start a kernel.
const FIRMWARE: &[&str] = &["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin"];
/// Rounds of the guest's init on each CPU.
const ROUNDS: u32 = 60;
/// Sizes of the buffers, MiB, that processes of the guest fill one page after another and all at
/// once: a trace shows each as a run of as many faults in one address space.
const BUFFERS_MIB: [u32; 3] = [2, 3, 4];

/// How the init of every guest begins.
const PREPARE: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
mount -t sysfs none /sys
";

/// Why a Linux guest cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum LinuxError {
    /// A tool could not be run.
    #[error("while running {program}")]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Not a dynamically linked program.
    #[error("ldd cannot list the libraries of {program}: {output}")]
    Libraries {
        /// QEMU.
        program: PathBuf,
        /// What ldd printed.
        output: String,
    },
    /// A firmware file is missing.
    #[error("QEMU's firmware {name} is in none of {directories:?}")]
    Firmware {
        /// The file.
        name: &'static str,
        /// Where QEMU looks.
        directories: Vec<PathBuf>,
    },
    /// No statically linked busybox.
    #[error("there is no statically linked busybox in PATH")]
    Busybox,
}

/// Everything that is packed.
#[derive(Debug)]
pub struct LinuxGuest {
    /// QEMU.
    pub qemu: PathBuf,
    libraries: Vec<PathBuf>,
    firmware: Vec<PathBuf>,
    busybox: PathBuf,
}

impl LinuxGuest {
    /// Finds everything on this machine.
    pub fn find(qemu: &Path) -> Result<Self, LinuxError> {
        let qemu = qemu.canonicalize().map_err(|source| LinuxError::Run {
            program: qemu.to_owned(),
            source,
        })?;
        let libraries = libraries(&qemu)?.ok_or_else(|| LinuxError::Libraries {
            program: qemu.clone(),
            output: "it has none".to_owned(),
        })?;
        let directories: Vec<PathBuf> = output_of(Command::new(&qemu).args(["-L", "help"]))?
            .0
            .lines()
            .map(PathBuf::from)
            .collect();
        let firmware = FIRMWARE
            .iter()
            .map(|&name| {
                let mut places = directories.iter().map(|directory| directory.join(name));
                places
                    .find(|place| place.is_file())
                    .ok_or_else(|| LinuxError::Firmware {
                        name,
                        directories: directories.clone(),
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

    /// `LD_LIBRARY_PATH` of the packed QEMU.
    pub fn library_path(&self) -> String {
        let directories: BTreeSet<_> = self
            .libraries
            .iter()
            .filter_map(|library| library.parent()?.to_str())
            .collect();
        directories.into_iter().collect::<Vec<_>>().join(":")
    }

    /// Packs all of it; `kernel` is the image.
    pub fn pack<W: Write>(
        &self,
        archive: &mut Initramfs<W>,
        kernel: &Path,
        load: &Load<'_>,
    ) -> Result<(), PackError> {
        let files = [&self.qemu].into_iter().chain(&self.libraries);
        for path in files.chain(&self.firmware) {
            archive.file(&path.to_string_lossy(), path)?;
        }
        archive.file(GUEST_KERNEL, kernel)?;
        archive.bytes(GUEST_INITRAMFS, &self.initramfs(load)?)
    }

    /// What the lab's init needs to know.
    pub fn job(&self, guest: &Linux) -> job::Linux {
        job::Linux {
            qemu: self.qemu.clone(),
            library_path: self.library_path(),
            cpus: guest.cpus,
            memory_mib: guest.memory_mib,
            attach: guest.attach.clone(),
        }
    }

    fn initramfs(&self, load: &Load<'_>) -> Result<Vec<u8>, PackError> {
        let mut bytes = Vec::new();
        let mut archive = Initramfs::new(&mut bytes)?;
        archive.file("/bin/busybox", &self.busybox)?;
        archive.directory("/proc")?;
        archive.directory("/sys")?;
        archive.directory("/tmp")?;
        let init = match load {
            Load::Processes { cpus } => init(*cpus),
            Load::Nested { modules, words } => {
                archive.file(GUEST_COLLECTOR, Path::new("/proc/self/exe"))?;
                for module in *modules {
                    archive.bytes(&format!("{MODULES}/{}.ko", module.name), &module.elf)?;
                }
                hypervisor_init(modules, words)
            }
        };
        archive.program("/init", init.as_bytes())?;
        archive.finish()?;
        Ok(bytes)
    }
}

/// What the guest does.
#[derive(Debug)]
pub enum Load<'a> {
    /// It runs processes on each CPU.
    Processes {
        /// Number of CPUs.
        cpus: u16,
    },
    /// It is a hypervisor itself.
    Nested {
        /// Modules of KVM, in load order.
        modules: &'a [Loadable],
        /// Arguments of this program that run a workload in the nested guest.
        words: &'a [String],
    },
}

/// The init of a guest hypervisor: it runs small guests until a line comes on its console, then
/// the workload. It stays on, so that the tables can be copied as the workload left them.
fn hypervisor_init(modules: &[Loadable], words: &[String]) -> String {
    let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
    let names = names.join(" ");
    let words = words.iter().map(|word| program::quoted(Path::new(word)));
    let words = Vec::from_iter(words).join(" ");
    format!(
        "{PREPARE}for module in {names}; do insmod {MODULES}/$module.ko || poweroff -f; done
small() {{ collector run linear --untraced -p pages=16 --timeout 3600 >/tmp/small 2>&1; }}
small || {{ cat /tmp/small; poweroff -f; }}
echo '{GUEST_READY}'
until read -r -t 1 line; do small; done
collector {words}
echo \"{GUEST_ENDED} $?\"
while :; do sleep 1000; done
"
    )
}

/// The guest's init: it prints where KASLR has moved its kernel's code, and fills the buffers. On
/// every CPU it starts processes and maps, writes, copies and frees memory; then it powers off.
fn init(cpus: u16) -> String {
    let buffers = BUFFERS_MIB.map(|mib| mib.to_string()).join(" ");
    format!(
        "{PREPARE}grep -E ' _e?text$' /proc/kallsyms
# One fault for each page, not for a huge page.
echo never >/sys/kernel/mm/transparent_hugepage/enabled
for mib in {buffers}; do
    dd if=/dev/zero of=/dev/null bs=${{mib}}M count=1 2>/dev/null &
done
wait
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

/// A statically linked busybox in PATH.
fn busybox() -> Result<PathBuf, LinuxError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for directory in std::env::split_paths(&path) {
        let program = directory.join("busybox");
        // One that ldd cannot read is skipped: the next directory may have another.
        if program.is_file() && matches!(libraries(&program), Ok(None)) {
            return Ok(program);
        }
    }
    Err(LinuxError::Busybox)
}

/// The libraries of a program and its dynamic loader; `None` if it is linked statically.
fn libraries(program: &Path) -> Result<Option<Vec<PathBuf>>, LinuxError> {
    let (out, err) = output_of(Command::new("ldd").env("LC_ALL", "C").arg(program))?;
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
            output: format!("{out}{err}"),
        });
    }
    Ok(Some(libraries))
}

/// Standard output and standard error of a tool.
fn output_of(command: &mut Command) -> Result<(String, String), LinuxError> {
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
    fn the_init_of_the_guest_works_on_every_cpu() {
        let script = init(2);
        assert!(script.contains("for cpu in $(seq 2); do work $cpu & done\nwait\n"));
        assert!(script.ends_with(&format!("echo '{GUEST_DONE}'\npoweroff -f\n")));
    }
}
