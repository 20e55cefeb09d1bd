//! A trace in the forms that other tools read.
//!
//! ```text
//! follow    each record, with what the analyzer knows of it, to a sink
//! steps     where the steps of a fault lie in time
//! spans     stretches of lost records that do not overlap
//! rows      CSV and JSON lines
//! csv       a row as JSON, written as CSV
//! perfetto  tracks, slices, counters and flows for Perfetto
//! firefox   a processed profile for the Firefox Profiler
//! ```

mod csv;
mod firefox;
mod follow;
mod perfetto;
mod rows;
mod spans;
mod steps;

use std::io::{self, Write};

use trace::TraceError;

pub use firefox::{Firefox, MOST_FAULTS, MOST_LONG, MOST_THREADS};
pub use follow::{Context, Exporter, Lost, Sink};
pub use perfetto::Perfetto;
pub use rows::{Form, Kind, Rows, write_kind};

/// Where an export goes.
pub type Output = Box<dyn Write>;

/// What can be wrong with an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The trace cannot be read.
    #[error(transparent)]
    Read(#[from] TraceError),
    /// A row cannot be written as JSON.
    #[error("while writing JSON")]
    Json(#[from] serde_json::Error),
    /// More faults than the Firefox Profiler can show.
    #[error(
        "more than {} faults: the Firefox Profiler holds all of them in memory",
        crate::text::units::count(MOST_FAULTS)
    )]
    TooManyFaults,
    /// More vCPUs than the Firefox Profiler can show.
    #[error(
        "more than {} vCPUs: each is a track of the Firefox Profiler",
        crate::text::units::count(MOST_THREADS as u64)
    )]
    TooManyThreads,
    /// Faults that are longer than a profile has samples for.
    #[error(
        "up to the fault of seq {seq} the faults took more than {} hours together, at one sample \
         for each 2.1 s",
        u64::from(MOST_LONG) * u64::from(i32::MAX.unsigned_abs()) / 3_600_000_000_000
    )]
    TooLong {
        /// Its number.
        seq: u64,
    },
    /// Faults of one vCPU at the same time.
    #[error("{most} faults of vCPU {vcpu} at the same time, which no recorder writes")]
    Overlap {
        /// The vCPU.
        vcpu: u16,
        /// How many may overlap.
        most: usize,
    },
}
