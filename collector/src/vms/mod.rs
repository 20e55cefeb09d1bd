//! The VMs that run on this machine.
//!
//! ```text
//! holders  processes that hold descriptors of VMs and vCPUs, from /proc
//! find     the VMs of these descriptors, which only the kernel knows
//! freeze   stops all threads of a process for a moment
//! ```

mod find;
mod freeze;
mod holders;

pub use find::{Found, FoundVm, among};
pub use freeze::{FreezeError, while_stopped};
pub use holders::{End, Holder, HolderError, all, of, take_room};
