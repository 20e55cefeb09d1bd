//! What is so: plain data, and what `--json` prints.
//!
//! Field names are the keys of the JSON; those of a record are its columns (`analyzer schema`).
//! Addresses and entries are hexadecimal strings, times are nanoseconds on the trace's clock. An
//! absent value was not recorded, or does not exist.

mod change;
mod common;
mod fault;
mod page;
mod record;
mod unsync;

pub use crate::faults::{GuestStep, gpa, guest_walk};
pub use change::{ChangeFacts, Fate, LaterGpte};
pub use common::{
    Because, FaultRef, GpteSource, GuestEntry, Invalidation, KnownGpte, Store, StoredBy,
    Translation, Translations, Writer, covers, index_of,
};
pub use fault::{FaultFacts, Followed, MemslotRange, RefaultFacts, StoredEntry};
pub use page::{Link, Moment, PageChange, PageFacts, Zap, ZapCause};
pub use record::{Kind, RecordFacts, Refilled, RootFacts, ShadowOfStore};
pub use unsync::{PeriodEnd, UnsyncPeriod};
