//! The kernel side from above: what to attach, where the kernel keeps its fields, and the
//! programs that run on request.
//!
//! ```text
//! plan      the programs, what each shows, and what it means if it is refused
//! btf       offsets and bit-fields from the running kernel's own description
//! loader    from the object to attached programs
//! requests  enrol, mark, keyframe: run in our own context
//! vms       VMs of other processes: identify, follow, counters, forget
//! resolver  what must be known before the probes are loaded
//! log       what the probes themselves have to say (-v)
//! address   where the direct map begins
//! ```

mod address;
mod btf;
mod loader;
mod log;
mod plan;
mod requests;
mod resolver;
mod vms;

pub use btf::{KernelTypes, Resolved};
pub use loader::{LoadError, Platform, Probes, Ring};
pub use log::{Printing, ProbeLog};
pub use plan::{PLAN, Step};
pub use requests::RequestError;
pub use resolver::{is_two_dimensional, page_offset};
pub use vms::{CounterNames, Object};
