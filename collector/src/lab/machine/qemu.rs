//! QEMU: an emulated AMD machine with SVM.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
};

use super::{Link, MachineError, Parts, start_error};
use crate::lab::job::PORT;

/// Its usual name.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The command that runs it, and the lab's stream. Standard output is the console.
pub fn command(program: &Path, parts: &Parts<'_>) -> Result<(Command, Link), MachineError> {
    let failed = start_error(program);
    let (here, there) = UnixStream::pair().map_err(&failed)?;
    let answers = here.try_clone().map_err(&failed)?;
    let mut command = Command::new(program);
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
        .stdin(Stdio::from(OwnedFd::from(there)));
    let link = Link {
        from: Box::new(here),
        to: Box::new(answers),
    };
    Ok((command, link))
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
