//! What the kernel side writes and the user side reads.
//!
//! Every record begins with a [`Header`]; its [`RecordKind`] says which struct the bytes are. All
//! records are `#[repr(C)]`, free of implicit padding, in the byte order of the traced machine
//! (x86-64: little-endian), and travel through one BPF ring buffer. This crate knows neither aya,
//! nor std, nor files. Decisions of the probes that need no kernel are here too, where they can be
//! tested: [`Ending`], [`Shadows`], [`number_then_read`], [`PathStep`].
#![no_std]

mod acts;
mod address;
mod config;
pub mod constants;
mod ending;
mod entries;
mod error_code;
mod faults;
mod header;
mod host;
#[cfg(feature = "serde")]
mod json;
mod keyframes;
mod losses;
mod marks;
mod named;
mod order;
mod pages;
mod path;
mod records;
mod roots;
mod shadows;
mod spte;
mod vcpus;
mod vms;
mod writes;

pub use acts::{Act, ActDone};
pub use address::{Gfn, Gpa, Gpte, Gva, Hpa, Hva, Pfn, Spte};
pub use config::{Config, FIELDS, Field, Offset, Offsets};
pub use ending::{Ending, errno_of};
pub use entries::{Cause, Entry};
pub use error_code::ErrorCode;
pub use faults::{Class, Fault, MOMENTS, Moment, NOT_SEEN};
pub use header::{Header, NO_VCPU, Seq, TimeNs, VcpuId, VmId};
pub use host::{Host, HostEvent};
pub use keyframes::{
    ENTRIES_PER_TABLE, KEYFRAME_BATCH, KEYFRAME_WORKERS, KeyframeCursor, KeyframeEntry,
    KeyframePage, page_share,
};
pub use losses::{Loss, Probe};
pub use marks::{COLLECTOR_MARK_BASE, Mark};
pub use order::{NotRead, number_then_read};
pub use pages::{Gptes, Page, PageEvent, Role, RoleLayout};
pub use path::PathStep;
pub use records::{Record, RecordKind};
pub use roots::{KeyframeRoot, PDPTES, PaeRoot, Root};
pub use shadows::{SHADOWS, Shadows};
pub use spte::Level;
pub use vcpus::{Outcomes, Store, Vcpu};
pub use vms::{COUNTER_WORDS, CounterWords, Identity, NO_PROCESS, NO_VM, SlotAnswer, VcpuKey};
pub use writes::Write;
