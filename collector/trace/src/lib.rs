//! The trace: its schema, its writer and its reader.
//!
//! A trace is a folder `NAME.trace/`:
//!
//! * `meta.json`: [`Meta`], what was recorded, where and how. Written at the start
//!   with `complete: false`, replaced at the end.
//! * `segments.jsonl`: one line for each segment, [`Segment`], appended before the
//!   segment gets its name. It carries the segment's length and CRC-32.
//! * one folder a kind (`faults`, `entries`, `pages`, `roots`, `marks`, `keyframes`,
//!   `writes`, `host`, `losses`) with Parquet segments `000001.parquet`, ... A number is one
//!   stretch of time in every kind; a kind without a row in it has no file.
//!
//! A segment is written under a temporary name, synced and renamed, so a reader
//! never sees half a file. Nothing here knows KVM, aya or clap.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "tests use small numbers"
    )
)]

mod cell;
mod encode;
mod error;
mod kinds;
mod meta;
mod pages;
pub mod pathology;
mod reader;
mod records;
mod segments;
mod stream;
mod stretches;
mod table;
mod writer;

pub use cell::Cell;
pub use error::TraceError;
pub use kinds::{
    ActRow, Batch, EntryRow, FaultRow, HostRow, KINDS, KeyframeMark, KeyframeRow, LossRow, MarkRow,
    PageRow, RootRow, Slot, WriteRow,
};
pub use meta::{
    Begin, Counters, Dropped, End, Event, Host, Imported, Kept, Memslot, Meta, Micro, Mode,
    ProbeState, ProgramCost, SCHEMA_VERSION, Sees, Stores, Tool, Touches, Tried, VcpuTouches,
    VmMeta, WorkloadMeta,
};
pub use reader::Trace;
pub use records::{KeyframePage, Record, Records};
pub use segments::Segment;
pub use stretches::{Part, Stretch, Stretches};
pub use table::{ColumnInfo, KindInfo, Row};
pub use writer::{MetaFile, SYMBOLS, TraceWriter};
