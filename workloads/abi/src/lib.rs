//! The contract between a Shadowscope guest and the VMM that runs it.
//!
//! - The VMM sets up guest memory as in [`layout`], writes a [`BootInfo`] and enters the guest's
//!   image on each CPU at CPL0, in long mode with paging on: RDI holds the boot info's address, RSI
//!   the CPU's number, RSP the CPU's kernel stack.
//! - The guest makes *calls*: it fills its CPU's [`Mailbox`] and writes a [`Call`] number to
//!   [`CALL_PORT`]. [`Call::Mark`] reports that a [`Phase`] begins; [`Call::Done`] ends the CPU's
//!   part of the run; [`Call::Exception`] and [`Call::Panic`] end the whole run.
//!
//! The guest is assumed to be hostile: every number from it is checked when it is converted, and no
//! length from it is trusted.
//!
//! Both sides are little-endian x86-64. [`ABI_VERSION`] changes with every change of meaning or
//! layout in this crate; it does not depend on the crate's version.
#![no_std]

#[cfg(test)]
extern crate std;

mod addr;
mod boot_info;
mod call;
mod crash;
mod host_page;
pub mod layout;
mod mailbox;
mod micro;
mod number;
mod order;
mod params;
mod shape;
mod shares;
mod touches;

pub use addr::{Gpa, Gva, PAGE_BYTES};
pub use boot_info::{BootInfo, FrameRange, MAX_PARAMS};
pub use call::{CALL_PORT, Call, HYPERCALL_MAGIC, Phase};
pub use crash::CrashKind;
pub use host_page::HostPage;
pub use mailbox::{Mailbox, ResultCode, TEXT_BYTES};
pub use micro::{Batches, MAX_BATCHES, MicroOp, PORT_ANSWER};
pub use number::{UnknownNumber, to_usize};
pub use order::{Order, value};
pub use params::{MAX_PAGES, MAX_PROCESSES, PIECE_PAGES, Pattern, WorkloadId};
pub use shape::Shape;
pub use shares::Shares;
pub use touches::{TOUCH_BINS, Touches};

/// First field of [`BootInfo`] and of [`Mailbox`]: the bytes `SHADOWSC`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SHADOWSC");

/// Version of this contract; guest and VMM must agree exactly.
pub const ABI_VERSION: u32 = 6;

/// Maximum number of CPUs of a guest.
pub const MAX_VCPUS: u16 = 4;
