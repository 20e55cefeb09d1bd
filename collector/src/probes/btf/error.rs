//! Why the kernel's types could not be used.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::format::FormatError;
use crate::host;

/// Why the kernel's types could not be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel describes no types, or not to us.
    #[error(
        "{} cannot be read: {why}; the kernel must be built with CONFIG_DEBUG_INFO_BTF, as those \
         of distributions are",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// There is no `/sys`.
    #[error("{}", host::NO_SYS)]
    NoSys,
    /// The file holds something else, or a module's types continue those of another vmlinux.
    #[error(
        "{} is no BTF that fits: {why}; vmlinux and modules must be of the same build, from \
         /sys/kernel/btf or from one kernel package",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: FormatError,
    },
    /// vmlinux is there, KVM is not.
    #[error(
        "the kernel's BTF does not describe KVM (no struct {0}): load its modules first, \
         `modprobe kvm_amd npt=0` or `modprobe kvm_intel ept=0`; if they are loaded, the kernel \
         must be built with CONFIG_DEBUG_INFO_BTF_MODULES"
    )]
    NoKvm(&'static str),
    /// A field without which nothing can be recorded.
    #[error(
        "the kernel's BTF has no {0}: this kernel's KVM keeps it elsewhere, and these probes do \
         not know where; they know Linux 6.1 to 7.3"
    )]
    Missing(String),
}

impl BtfError {
    pub(super) fn unreadable(path: &Path, why: io::Error) -> Self {
        if path.starts_with("/sys") && !host::has_sys() {
            return Self::NoSys;
        }
        Self::Unreadable {
            path: path.to_owned(),
            why,
        }
    }

    pub(super) fn malformed(path: &Path, why: FormatError) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            why,
        }
    }
}
