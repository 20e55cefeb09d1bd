//! What can be wrong with a trace.

use std::{io, path::PathBuf};

/// Why a trace could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The output exists.
    #[error("{} exists already; choose another name with -o, or remove it", path.display())]
    Exists {
        /// The folder asked for.
        path: PathBuf,
    },
    /// The folder holds no `meta.json`.
    #[error(
        "{} is not a trace: it has no meta.json (a trace is the folder that `collector run -o` \
         makes)",
        path.display()
    )]
    NotATrace {
        /// The path given.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("while {doing} {}", path.display())]
    Io {
        /// "reading", "writing", ...
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `meta.json` does not parse.
    #[error("{}: not the metadata of a trace", path.display())]
    Meta {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The trace comes from a later program, or from none.
    #[error("{}: schema version {found}, {}", path.display(), unreadable(*found, *known))]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// A line of the list of segments does not parse.
    #[error("{}: line {line} does not describe a segment: {why}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The list of segments is not the one that was written.
    #[error(
        "{}: {found}, written with {expected}: lines are missing or were added",
        path.display()
    )]
    Incomplete {
        /// The list.
        path: PathBuf,
        /// Segments and rows in it.
        found: String,
        /// As the recorder counted them.
        expected: String,
    },
    /// A segment is not the file that was written.
    #[error("{}: {why}; the {before} rows of its kind before it are readable", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Found and expected.
        why: String,
        /// Rows in earlier segments of the kind.
        before: u64,
    },
    /// A column is missing, or is not what the schema says.
    #[error("{}: column `{column}`: {why}", path.display())]
    Column {
        /// The segment.
        path: PathBuf,
        /// Name of the column.
        column: String,
        /// Found and expected.
        why: String,
    },
    /// Polars could not build or encode a segment.
    #[error("while encoding {}: {why}", path.display())]
    Encode {
        /// The segment.
        path: PathBuf,
        /// What polars said.
        why: String,
    },
}

impl TraceError {
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}

/// Why a trace with this version of the schema is not read.
fn unreadable(found: u32, known: u32) -> String {
    match found {
        0 => "which no program writes".to_owned(),
        _ => format!("and this program reads up to {known}; use a newer analyzer"),
    }
}
