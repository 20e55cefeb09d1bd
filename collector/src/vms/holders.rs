//! Processes that hold KVM's file descriptors, from `/proc/PID/task/TID/fd`.
//!
//! Nearly always all threads share one table of descriptors, which the kernel tells. But a thread may
//! have its own (`CLONE_FILES`), and a process lives on when its first thread has ended, whose table
//! is gone then.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Resource, getrlimit, pidfd_getfd, pidfd_open, setrlimit,
};

use crate::probes::{Object, RequestError};

/// Why the VMs of a process could not be found.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// There is no such process.
    #[error("there is no process {0}")]
    None(u32),
    /// It is the id of a thread.
    #[error("{0} is a thread, not a process")]
    Thread(u32),
    /// This user may not read it.
    #[error("process {pid} ({name}) may not be read: {doing}")]
    Denied {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// The operation that failed.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel did not say of which VM one of its descriptors is.
    #[error("descriptor {descriptor} of process {pid} ({name}): its VM could not be found")]
    Unidentified {
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
        /// The descriptor's number there.
        descriptor: RawFd,
        /// Why.
        source: Box<RequestError>,
    },
}

/// Whether a process is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is alive.
    NotYet,
    /// It is exiting: its memory is freed, and KVM's tables with it.
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
    /// Readable once the process has ended; also gives access to its descriptors.
    pub pidfd: OwnedFd,
    /// KVM's descriptors that it holds.
    pub descriptors: Vec<Descriptor>,
}

/// One of KVM's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// A thread in whose table it is; the first thread's number is the process's.
    pub thread: u32,
    /// Its number.
    pub number: RawFd,
    /// What it is.
    pub object: Object,
}

impl Holder {
    /// Its id, as in the trace.
    pub fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it is alive.
    pub fn end(&self) -> End {
        if self.wait(Duration::ZERO) {
            return End::Over;
        }
        // A thread that exits frees its memory first; the first thread may be gone before others.
        let has_memory = |thread: u32| {
            let status = fs::read_to_string(task(self.number(), thread).join("status"));
            status.is_ok_and(|status| status.contains("\nVmSize:"))
        };
        match has_memory(self.number()) || threads(self.number()).into_iter().any(has_memory) {
            true => End::NotYet,
            false => End::UnderWay,
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

    /// Whether it holds a vCPU.
    pub fn has_vcpus(&self) -> bool {
        let is_vcpu = |of: &Descriptor| of.object == Object::Vcpu;
        self.descriptors.iter().any(is_vcpu)
    }

    /// Duplicates one of its descriptors to this process; `None` if it was closed meanwhile, or
    /// refers to something else now.
    pub fn duplicate(&self, of: &Descriptor) -> Result<Option<OwnedFd>, HolderError> {
        let own;
        let table = match of.thread == self.number() {
            true => &self.pidfd,
            false => match self.thread(of.thread)? {
                Some(thread) => {
                    own = thread;
                    &own
                }
                None => return Ok(None),
            },
        };
        match pidfd_getfd(table, of.number, PidfdGetfdFlags::empty()) {
            Ok(duplicate) => {
                let link = format!("/proc/self/fd/{}", duplicate.as_raw_fd());
                let target = fs::read_link(link)
                    .map_err(|error| self.denied("reading a duplicated descriptor", error))?;
                let same = object(target.as_os_str().to_str()) == Some(of.object);
                Ok(same.then_some(duplicate))
            }
            Err(rustix::io::Errno::BADF | rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(self.denied("pidfd_getfd", error.into())),
        }
    }

    /// One of its threads; `None` if it has ended.
    fn thread(&self, number: u32) -> Result<Option<OwnedFd>, HolderError> {
        // PIDFD_THREAD, since Linux 6.9.
        let of_thread = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());
        let id = i32::try_from(number).ok().and_then(Pid::from_raw);
        let id = id.ok_or(HolderError::None(number))?;
        match pidfd_open(id, of_thread) {
            Ok(thread) => Ok(Some(thread)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(self.denied(
                "pidfd_open of a thread whose descriptors are its own (needs Linux 6.9)",
                error.into(),
            )),
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

/// The process, with its descriptors of KVM, if it has any.
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
        // A thread has this id.
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
    let mut tables = Vec::new();
    for thread in threads(pid) {
        // One that has ended has none, and one that shares a table has no more than that has.
        if tables.iter().any(|table| share_descriptors(*table, thread)) {
            continue;
        }
        match table(pid, thread) {
            Ok(descriptors) => holder.descriptors.extend(descriptors),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(holder.denied("reading its descriptors", error)),
        }
        tables.push(thread);
        if tables.len() == MOST_TABLES {
            break;
        }
    }
    if tables.is_empty() {
        return Err(HolderError::None(pid));
    }
    Ok(holder)
}

/// Most tables of descriptors of a process that are read.
const MOST_TABLES: usize = 64;

/// KVM's descriptors in the table of one thread.
fn table(process: u32, thread: u32) -> io::Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    for link in fs::read_dir(task(process, thread).join("fd"))? {
        // It is no error that a process ends or closes a file meanwhile.
        let Ok(link) = link else { break };
        let Ok(target) = fs::read_link(link.path()) else {
            continue;
        };
        let number = link.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(number), Some(object)) = (number, object(target.as_os_str().to_str())) {
            found.push(Descriptor {
                thread,
                number,
                object,
            });
        }
    }
    Ok(found)
}

/// Threads of a process, the first one first.
fn threads(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(Path::new("/proc").join(process.to_string()).join("task"));
    let mut threads: Vec<u32> = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect();
    threads.sort_by_key(|thread| (*thread != process, *thread));
    threads
}

fn task(process: u32, thread: u32) -> PathBuf {
    Path::new("/proc").join(format!("{process}/task/{thread}"))
}

/// Whether two threads of one process have one table of descriptors. A kernel without `kcmp` does not
/// say: nearly all have.
fn share_descriptors(one: u32, other: u32) -> bool {
    const KCMP_FILES: libc::c_long = 2;
    // SAFETY: plain numbers.
    let compared = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0, 0) };
    match compared {
        0 => true,
        -1 => io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS),
        _ => false,
    }
}

/// Every other process that holds a vCPU and may be read.
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
        // Skip processes that have ended or may not be read.
        let Ok(holder) = of(pid) else { continue };
        if holder.has_vcpus() {
            holders.push(holder);
        }
    }
    Ok(holders)
}

/// Takes as many descriptors as this process may have: each VM costs one, and one for a moment more.
pub fn take_room() -> io::Result<()> {
    let mut room = getrlimit(Resource::Nofile);
    room.current = room.maximum;
    Ok(setrlimit(Resource::Nofile, room)?)
}

/// A process may choose any name, also one with control characters for the terminal.
fn printable(name: &str) -> String {
    name.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}

/// The object of a link in `/proc/PID/fd`. The target of a real file begins with a slash.
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
    fn only_vms_and_vcpus_are_recognized() {
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
    fn names_have_no_control_characters() {
        assert_eq!(printable("qemu \u{1b}[31m\nx"), "qemu ?[31m?x");
    }

    #[test]
    fn an_id_without_a_process_is_an_error() {
        assert!(matches!(of(0), Err(HolderError::None(0))));
        assert!(matches!(of(u32::MAX), Err(HolderError::None(_))));
        let this = of(std::process::id()).expect("this process");
        assert!(!this.has_vcpus());
    }
}
