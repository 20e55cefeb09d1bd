//! Damage to a trace: what the tests of hostile traces and the fuzzers share.
//!
//! ```text
//! files     bytes, lengths and names of its files
//! values    numbers and texts of its metadata and of its list of segments
//! rows      the values in valid Parquet
//! ```

#![allow(
    clippy::unwrap_used,
    reason = "only tests call it, with traces that they wrote"
)]

mod files;
mod rows;
mod values;

use std::path::Path;

use fastrand::Rng;
use trace::{Batch, Row, Trace, TraceError};

/// A text in every damaged name: no control character, tag or attribute of it may come out.
pub const EVIL: &str = "\u{1b}]0;evil\u{7}<script>alert(1)</script>\" onload=\"x";

/// How a trace is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Bytes of its files, their lengths and names.
    Files,
    /// Bytes of its segments, whose checksums are mended.
    Parquet,
    /// Values of `meta.json`.
    Metadata,
    /// Values of the list of segments.
    List,
    /// Values in valid Parquet.
    Rows,
    /// The names of functions.
    Symbols,
}

impl Damage {
    /// Those that reach deepest are chosen more often.
    pub const ALL: [Self; 10] = [
        Self::Files,
        Self::Parquet,
        Self::Parquet,
        Self::Metadata,
        Self::Metadata,
        Self::List,
        Self::Rows,
        Self::Rows,
        Self::Rows,
        Self::Symbols,
    ];

    /// Damages the trace in a folder, which is whole.
    pub fn apply(self, trace: &Path, random: &mut Rng) {
        match self {
            Self::Files => files::damage(trace, random),
            Self::Parquet => files::damage_parquet(trace, random),
            Self::Metadata => values::damage_metadata(trace, random),
            Self::List => values::damage_list(trace, random),
            Self::Rows => rows::damage(trace, random),
            Self::Symbols => files::damage_symbols(trace, random),
        }
    }
}

/// Applies something to the rows of every kind.
#[macro_export]
macro_rules! each_kind {
    ($batch:expr, $rows:ident => $what:expr) => {{
        let batch: &mut trace::Batch = $batch;
        $crate::each_kind!(@ batch, $rows, $what;
            faults entries pages roots marks keyframes writes host acts losses);
    }};
    (@ $batch:ident, $rows:ident, $what:expr; $($kind:ident)+) => {
        $({ let $rows = &mut $batch.$kind; $what; })+
    };
}

/// The rows of one kind.
pub fn rows<R: Row>(trace: &Trace) -> Result<Vec<R>, TraceError> {
    let mut all = Vec::new();
    for segment in trace.of_kind(R::KIND) {
        all.extend(trace.segment_rows::<R>(segment)?);
    }
    Ok(all)
}

/// The rows of all kinds.
pub fn all_rows(trace: &Trace) -> Result<Batch, TraceError> {
    let mut batch = Batch::default();
    each_kind!(&mut batch, kind => *kind = rows(trace)?);
    Ok(batch)
}
