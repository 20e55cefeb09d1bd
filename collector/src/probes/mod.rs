//! The user side of the probes: what to attach, where the kernel keeps its fields, and the
//! programs that run on request. Each module uses only those above it.
//!
//! ```text
//! btf       offsets and bit-fields from the running kernel's own description
//! step      what a step of the plan is: its hooks, and what it shows
//! plan      the programs, what each shows, and what it means if it is refused
//! object    the compiled probes: maps, programs that the kernel accepts
//! maps      the maps that user space reads and writes
//! calls     runs a program in the context of the calling thread
//! loader    attaches the programs of the plan
//! requests  enrol, mark
//! keyframes copying a stopped VM's shadow pages
//! vms       VMs of other processes: identify, follow, counters, forget
//! resolver  what must be known before the probes are loaded
//! log       the probes' own log (-v)
//! address   where the direct map begins
//! ```

mod address;
mod btf;
mod calls;
mod keyframes;
#[cfg(test)]
mod kvm_tests;
mod loader;
mod log;
mod maps;
mod object;
mod plan;
mod requests;
mod resolver;
#[cfg(test)]
mod stack;
mod step;
mod vms;

pub use btf::{KernelTypes, Resolved};
pub use calls::RequestError;
pub use loader::{Platform, Probes};
pub use log::{Printing, ProbeLog};
pub use object::{LoadError, Ring, Room};
pub use plan::{EVERY_CHANGE, PLAN};
pub use resolver::{is_two_dimensional, page_offset};
pub use step::Step;
pub use vms::{CounterNames, Object};
