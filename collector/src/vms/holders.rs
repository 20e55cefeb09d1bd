//! Processes that hold KVM's file descriptors, as `/proc/PID/fd` shows them.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    path::Path,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::probes::Object;

/// Why a process could not be asked for its VMs.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// There is none.
    #[error("there is no process {0}")]
    None(u32),
    /// A thread's number was given.
    #[error("{0} is a thread, not a process")]
    Thread(u32),
    /// Not for us.
    #[error("process {pid} ({name}) may not be read: {doing}")]
    Denied {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// What failed.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// How far the end of a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It lives.
    NotYet,
    /// It has begun: its memory goes, and what KVM made of it.
    UnderWay,
    /// All its threads have ended.
    Over,
}

/// A process that holds KVM's descriptors.
#[derive(Debug)]
pub struct Holder {
    /// Its id.
    pub pid: Pid,
    /// Its name (`comm`).
    pub name: String,
    /// Readable once it has ended, and the way to its descriptors.
    pub pidfd: OwnedFd,
    /// KVM's descriptors in it.
    pub descriptors: Vec<(RawFd, Object)>,
}

impl Holder {
    /// Its id, as the trace has it.
    pub fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How far its end has come.
    pub fn end(&self) -> End {
        if self.wait(Duration::ZERO) {
            return End::Over;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.number()));
        // A process that ends gives up its memory first.
        match status {
            Ok(status) if status.contains("\nVmSize:") => End::NotYet,
            _ => End::UnderWay,
        }
    }

    /// Waits until all its threads have ended; false if that takes longer.
    pub fn wait(&self, longest: Duration) -> bool {
        let mut waiting = libc::pollfd {
            fd: self.pidfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let longest = i32::try_from(longest.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one structure, which outlives the call.
        unsafe { libc::poll(&raw mut waiting, 1, longest) == 1 }
    }

    /// Whether a VM can run in it.
    pub fn has_vcpus(&self) -> bool {
        self.descriptors
            .iter()
            .any(|(_, object)| *object == Object::Vcpu)
    }

    /// A copy of one of its descriptors in this process; `None` if it was closed meanwhile, or stands
    /// for something else by now.
    pub fn copy(
        &self,
        descriptor: RawFd,
        expected: Object,
    ) -> Result<Option<OwnedFd>, HolderError> {
        match pidfd_getfd(&self.pidfd, descriptor, PidfdGetfdFlags::empty()) {
            Ok(copy) => {
                let link = format!("/proc/self/fd/{}", copy.as_raw_fd());
                let target = fs::read_link(link)
                    .map_err(|error| self.denied("reading a copied descriptor", error))?;
                let same = object(target.as_os_str().to_str()) == Some(expected);
                Ok(same.then_some(copy))
            }
            Err(rustix::io::Errno::BADF | rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(self.denied("pidfd_getfd", error.into())),
        }
    }

    fn denied(&self, doing: &'static str, source: io::Error) -> HolderError {
        HolderError::Denied {
            pid: self.number(),
            name: self.name.clone(),
            doing,
            source,
        }
    }
}

/// The process, with whatever descriptors of KVM it holds (maybe none).
pub fn of(pid: u32) -> Result<Holder, HolderError> {
    let id = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(HolderError::None(pid))?;
    let folder = Path::new("/proc").join(pid.to_string());
    let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
    let name = printable(name.trim_end());
    let pidfd = pidfd_open(id, PidfdFlags::empty()).map_err(|error| match error {
        rustix::io::Errno::SRCH => HolderError::None(pid),
        // The number is in use, but not by a process.
        rustix::io::Errno::INVAL | rustix::io::Errno::NOENT => HolderError::Thread(pid),
        error => HolderError::Denied {
            pid,
            name: name.clone(),
            doing: "pidfd_open",
            source: error.into(),
        },
    })?;
    let mut holder = Holder {
        pid: id,
        name,
        pidfd,
        descriptors: Vec::new(),
    };
    let links = match fs::read_dir(folder.join("fd")) {
        Ok(links) => links,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(HolderError::None(pid));
        }
        Err(error) => return Err(holder.denied("reading its descriptors", error)),
    };
    for link in links {
        // Processes end and close files while they are looked at: that is no error.
        let Ok(link) = link else { break };
        let Ok(target) = fs::read_link(link.path()) else {
            continue;
        };
        let descriptor = link.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(descriptor), Some(object)) = (descriptor, object(target.as_os_str().to_str()))
        {
            holder.descriptors.push((descriptor, object));
        }
    }
    Ok(holder)
}

/// Every process that holds a vCPU and may be read; not ourselves.
pub fn all() -> io::Result<Vec<Holder>> {
    let mut holders = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        // One that has ended, or that is hidden from us, has no VM for us.
        let Ok(holder) = of(pid) else { continue };
        if holder.has_vcpus() {
            holders.push(holder);
        }
    }
    Ok(holders)
}

/// A process may give itself any name, and terminals obey some characters.
fn printable(name: &str) -> String {
    name.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}

/// What a link of `/proc/PID/fd` stands for. A real file's target begins with a slash.
fn object(target: Option<&str>) -> Option<Object> {
    let kvm = target?.strip_prefix("anon_inode:kvm-")?;
    match kvm.strip_prefix("vcpu:") {
        Some(_) => Some(Object::Vcpu),
        None if kvm == "vm" => Some(Object::Vm),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_vms_and_vcpus_are_taken() {
        assert_eq!(object(Some("anon_inode:kvm-vm")), Some(Object::Vm));
        assert_eq!(object(Some("anon_inode:kvm-vcpu:0")), Some(Object::Vcpu));
        assert_eq!(object(Some("anon_inode:kvm-vcpu:17")), Some(Object::Vcpu));
        for other in [
            "anon_inode:kvm-vcpu-stats:0",
            "anon_inode:kvm-vm-stats",
            "anon_inode:[eventfd]",
            "/anon_inode:kvm-vm",
            "socket:[1]",
        ] {
            assert_eq!(object(Some(other)), None, "{other}");
        }
        assert_eq!(object(None), None);
    }

    #[test]
    fn a_name_says_nothing_to_the_terminal() {
        assert_eq!(printable("qemu \u{1b}[31m\nx"), "qemu ?[31m?x");
    }

    #[test]
    fn what_is_no_process_is_said() {
        assert!(matches!(of(0), Err(HolderError::None(0))));
        assert!(matches!(of(u32::MAX), Err(HolderError::None(_))));
        let this = of(std::process::id()).expect("this process");
        assert!(!this.has_vcpus());
    }
}
