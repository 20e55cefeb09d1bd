//! What the kernel side writes and the user side reads.
//!
//! Every record begins with a [`Header`]; its [`RecordKind`] says which struct
//! the bytes are. All records are `#[repr(C)]`, free of implicit padding, in the
//! byte order of the traced machine (x86-64: little-endian), and travel through
//! one BPF ring buffer. This crate knows neither aya, nor std, nor files.
#![no_std]

mod address;
mod config;
mod entries;
mod faults;
mod header;
mod host;
#[cfg(feature = "serde")]
mod json;
mod keyframes;
mod losses;
mod marks;
mod pages;
mod roots;
mod spte;
mod vcpus;
mod vms;
mod writes;

pub use address::{ERROR_PFN_MASK, Gfn, Gpa, Gpte, Gva, Hpa, Hva, NO_SLOT_PFN, Pfn, Spte};
pub use config::{ABSENT, Config, FIELDS, Field, Offsets};
pub use entries::{Cause, Entry};
pub use faults::{Class, Fault, MOMENTS, Moment, NOT_SEEN};
pub use header::{Header, NO_VCPU, RecordKind, Seq, TimeNs, VcpuId, VmId};
pub use host::{Host, HostEvent};
pub use keyframes::{
    ENTRIES_PER_TABLE, KEYFRAME_BATCH, KeyframeCursor, KeyframePage, KeyframeTable,
};
pub use losses::{Loss, Probe};
pub use marks::{COLLECTOR_MARK_BASE, Mark};
pub use pages::{Page, PageEvent, Role, RoleLayout};
pub use roots::Root;
pub use spte::Level;
pub use vcpus::{Outcomes, SHADOWS, Store, Vcpu};
pub use vms::{COUNTER_WORDS, CounterWords, Identity, MEMSLOT_BUCKETS, NO_VM, SlotAnswer, VcpuKey};
pub use writes::Write;
