//! The lab's system: mounts, modules, clock, power.

use std::{ffi::CString, fs, fs::File, io};

use anyhow::Context as _;
use rustix::{
    ioctl::{NoArg, ioctl, opcode},
    system::{RebootCommand, delete_module, finit_module, reboot},
};

use crate::lab::job::{MODULES, Module};

/// Type and mount point of each file system, parents first.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("securityfs", "/sys/kernel/security"),
];

/// Mounts what the collector needs.
pub fn mount_all() -> anyhow::Result<()> {
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("while creating {place}"))?;
        mount(kind, place).with_context(|| format!("while mounting {kind} at {place}"))?;
    }
    Ok(())
}

fn mount(kind: &str, place: &str) -> io::Result<()> {
    let (kind, place) = (CString::new(kind)?, CString::new(place)?);
    // SAFETY: three strings that end with a NUL byte, and no data.
    let result = unsafe {
        libc::mount(
            kind.as_ptr(),
            place.as_ptr(),
            kind.as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Loads a module of the initramfs.
pub fn load(module: &Module) -> anyhow::Result<()> {
    let path = format!("{MODULES}/{}.ko", module.name);
    let loading = || format!("while loading {path} {}", module.parameters);
    let file = File::open(&path).with_context(loading)?;
    let parameters = CString::new(module.parameters.as_str())?;
    finit_module(&file, &parameters, 0).with_context(loading)
}

/// Unloads a module, which must not be in use.
pub fn unload(module: &Module) -> anyhow::Result<()> {
    let name = CString::new(module.name.as_str())?;
    delete_module(&name, 0).with_context(|| format!("while unloading {}", module.name))
}

/// Lets the clock interrupt the CPU at least once a second, while the file is open.
///
/// Where QEMU 7.2 emulates the exit of an SVM guest, it clears a bit in the word of pending requests
/// without a lock (`do_vmexit`). A device that sets another bit just then does so in vain: the CPU
/// sleeps on, with its timer's interrupt pending, until the next interrupt of any device.
pub fn wake_each_second() -> anyhow::Result<File> {
    /// `RTC_UIE_ON` of `linux/rtc.h`.
    const UPDATE_INTERRUPTS_ON: u32 = opcode::none(b'p', 0x03);
    let path = "/dev/rtc0";
    let waking = || format!("while asking {path} for interrupts");
    let clock = File::open(path).with_context(waking)?;
    // SAFETY: the request has no argument.
    unsafe { ioctl(&clock, NoArg::<UPDATE_INTERRUPTS_ON>::new()) }.with_context(waking)?;
    Ok(clock)
}

/// Powers the machine off; returns only if that failed.
pub fn power_off() -> io::Error {
    rustix::fs::sync();
    match reboot(RebootCommand::PowerOff) {
        Ok(()) => io::Error::other("the machine did not power off"),
        Err(error) => error.into(),
    }
}
