//! Giving up root once the probes are attached and the VM is made.
//!
//! Neither running a vCPU nor reading the ring asks for a capability: the open file descriptors
//! carry the right.

use std::{env, io};

use rustix::thread::{CapabilitySet, CapabilitySets};

/// Why root could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("while giving up root ({doing})")]
pub struct PrivilegeError {
    doing: &'static str,
    source: io::Error,
}

/// Whether this process may load probes.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Becomes the user who called `sudo`, if there is one, and gives up every capability. To be
/// called before any thread starts: capabilities belong to threads.
pub fn drop_root() -> Result<(), PrivilegeError> {
    if let Some((uid, gid)) = invoking_user() {
        become_user(uid, gid)?;
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)
        .map_err(|error| PrivilegeError { doing: "capset", source: error.into() })?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| PrivilegeError { doing: "no_new_privs", source: error.into() })
}

/// Ids of the user behind `sudo`; nobody, if root itself called.
fn invoking_user() -> Option<(libc::uid_t, libc::gid_t)> {
    let id = |name| env::var(name).ok()?.parse().ok();
    let (uid, gid) = (id("SUDO_UID")?, id("SUDO_GID")?);
    (uid != 0).then_some((uid, gid))
}

fn become_user(uid: libc::uid_t, gid: libc::gid_t) -> Result<(), PrivilegeError> {
    let check = |doing, result| match result {
        0 => Ok(()),
        _ => Err(PrivilegeError { doing, source: io::Error::last_os_error() }),
    };
    // SAFETY: plain numbers; the empty list of groups needs no pointer.
    check("setgroups", unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: plain numbers. The C library changes every thread, unlike the bare system call.
    check("setresgid", unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: as above.
    check("setresuid", unsafe { libc::setresuid(uid, uid, uid) })
}
