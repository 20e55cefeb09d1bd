//! Dropping root once the probes are attached and the VM is created.
//!
//! Neither running a vCPU nor reading the ring buffer needs a capability: the open file descriptors
//! are enough. Stopping another process's threads for a keyframe and finding VMs that appear later
//! need two of them, which `attach` keeps for its main thread alone.

use std::{env, io, ptr, thread};

use rustix::thread::{CapabilitySet, CapabilitySets};

/// Why root could not be dropped.
#[derive(Debug, thiserror::Error)]
#[error("while dropping root ({doing})")]
pub struct PrivilegeError {
    doing: &'static str,
    source: io::Error,
}

/// Whether this process may load probes.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The capabilities to watch other processes: to stop their threads, to copy their file
/// descriptors, and to list those of other users' processes.
pub const WATCHING: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);

/// Becomes the user who called `sudo`, if there is one, and drops every capability for good. Must
/// be called before any thread starts: capabilities belong to threads.
pub fn drop_root() -> Result<(), PrivilegeError> {
    keep_only(CapabilitySet::empty())
}

/// Like [`drop_root`], but the calling thread keeps the capabilities `kept`.
pub fn keep_only(kept: CapabilitySet) -> Result<(), PrivilegeError> {
    let user = invoking_user(|name| env::var(name).ok())?;
    drop_bounding_set()?;
    let failed = |doing| {
        move |error: rustix::io::Errno| PrivilegeError {
            doing,
            source: error.into(),
        }
    };
    if let Some((uid, gid)) = user {
        // Otherwise the change of user would drop every capability.
        rustix::thread::set_keep_capabilities(true).map_err(failed("keep_caps"))?;
        become_user(uid, gid)?;
        rustix::thread::set_keep_capabilities(false).map_err(failed("keep_caps"))?;
    }
    set_capabilities(kept)?;
    rustix::thread::set_no_new_privs(true).map_err(failed("no_new_privs"))
}

/// Runs `work`, which uses paths that the user who called `sudo` chose or can change, with that
/// user's rights to files: on a thread of its own, as the rest of this process stays root. If there
/// is no such user, root itself chose them.
pub fn as_user<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, PrivilegeError> {
    let Some((uid, gid)) = invoking_user(|name| env::var(name).ok())? else {
        return Ok(work());
    };
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            // The system calls themselves, unlike the C library's functions, change one thread. The
            // change of the user takes the rights of root to files.
            // SAFETY: plain numbers; the empty list of groups needs no pointer.
            let groups = unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) };
            for (doing, id, call) in [
                ("setfsgid", gid, libc::SYS_setfsgid),
                ("setfsuid", uid, libc::SYS_setfsuid),
            ] {
                // They answer with the value before: the second call shows whether the first worked.
                // SAFETY: plain numbers.
                let now = unsafe {
                    libc::syscall(call, id);
                    libc::syscall(call, id)
                };
                if groups != 0 || now != libc::c_long::from(id) {
                    let source = io::Error::other("the kernel refused it");
                    return Err(PrivilegeError { doing, source });
                }
            }
            Ok(work())
        });
        working
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `work` on a thread without capabilities; threads that it starts have none either.
pub fn without<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, PrivilegeError> {
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            set_capabilities(CapabilitySet::empty())?;
            Ok(work())
        });
        working
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn set_capabilities(kept: CapabilitySet) -> Result<(), PrivilegeError> {
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).map_err(|error| PrivilegeError {
        doing: "capset",
        source: error.into(),
    })
}

/// Clears the bounding set, so that no program that this process starts can regain a capability.
fn drop_bounding_set() -> Result<(), PrivilegeError> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => {
                return Err(PrivilegeError {
                    doing: "the bounding set",
                    source: error.into(),
                });
            }
        }
    }
    Ok(())
}

/// Ids of the user who called `sudo`; `None` if root itself called this program.
fn invoking_user(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<(libc::uid_t, libc::gid_t)>, PrivilegeError> {
    let id = |text: Option<String>| text.and_then(|text| text.parse().ok());
    match (variable("SUDO_UID"), variable("SUDO_GID")) {
        (None, None) => Ok(None),
        (uid, gid) => match (id(uid), id(gid)) {
            (Some(0), Some(_)) => Ok(None),
            (Some(uid), Some(gid)) => Ok(Some((uid, gid))),
            _ => Err(PrivilegeError {
                doing: "SUDO_UID and SUDO_GID",
                source: io::Error::other("both must be set by sudo, or neither"),
            }),
        },
    }
}

fn become_user(uid: libc::uid_t, gid: libc::gid_t) -> Result<(), PrivilegeError> {
    let check = |doing, result| match result {
        0 => Ok(()),
        _ => Err(PrivilegeError {
            doing,
            source: io::Error::last_os_error(),
        }),
    };
    // SAFETY: plain numbers; the empty list of groups needs no pointer.
    check("setgroups", unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: plain numbers. The C library changes every thread, unlike the bare system call.
    check("setresgid", unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: as above.
    check("setresuid", unsafe { libc::setresuid(uid, uid, uid) })
}

#[cfg(test)]
mod tests {
    use super::invoking_user;

    #[test]
    fn only_uid_and_gid_together_name_a_user() {
        let user = |uid: Option<&str>, gid: Option<&str>| {
            invoking_user(|name| if name == "SUDO_UID" { uid } else { gid }.map(str::to_owned)).ok()
        };
        assert_eq!(user(None, None), Some(None));
        assert_eq!(user(Some("1000"), Some("100")), Some(Some((1000, 100))));
        assert_eq!(user(Some("0"), Some("0")), Some(None));
        for (uid, gid) in [
            (Some("1000"), None),
            (None, Some("1000")),
            (Some("x"), Some("1")),
        ] {
            assert_eq!(user(uid, gid), None);
        }
    }
}
