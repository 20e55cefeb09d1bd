//! The shadow tables of a VM at a moment.

mod addresses;
mod begin;
mod between;
mod diff;
mod diff_text;
mod folded;
mod json;
mod moment;
pub(crate) mod ranges;
mod reading;
mod snapshot;
mod tree;

pub use between::Between;
pub use diff::{EntryChange, changes};
pub(crate) use diff_text::{changes_json, changes_text};
pub use json::json;
pub use moment::{Moment, TableError};
pub use ranges::ranges;
pub use reading::{difference, snapshots, snapshots_from_the_start};
pub use snapshot::{Snapshot, SnapshotError};
pub(crate) use tree::gfn;
pub use tree::{translation, tree};
