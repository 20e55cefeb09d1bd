//! VMs that run on this machine, whoever runs them.
//!
//! ```text
//! holders  processes with descriptors of VMs and vCPUs, from /proc
//! find     the VMs behind them: the kernel says which descriptors are one VM's
//! freeze   a process's threads stopped while something is done
//! ```

mod find;
mod freeze;
mod holders;

pub use find::{Found, FoundVm, among};
pub use freeze::{FreezeError, while_stopped};
pub use holders::{End, Holder, HolderError, all, of};
