//! `sweep.json`, which `collector sweep` wrote. It is as hostile as a trace.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Version that is known.
const SCHEMA: u32 = 1;
/// Largest file that is read.
const MOST: u64 = 16 << 20;
/// Its name in the folder of a sweep.
pub const INDEX: &str = "sweep.json";

/// The index could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The folder has no index.
    #[error(
        "{} is not a sweep: it has no {INDEX} (a sweep is the folder that `collector sweep -o` makes)",
        folder.display()
    )]
    NotASweep {
        /// The folder.
        folder: PathBuf,
    },
    /// The file could not be read.
    #[error("while reading {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no index.
    #[error("{path} is not the index of a sweep")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("{path} has version {found}; this program knows {SCHEMA}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It names a trace outside of its folder.
    #[error("{path} names the trace {trace:?}, which is outside of the sweep")]
    Outside {
        /// The file.
        path: PathBuf,
        /// The trace.
        trace: String,
    },
}

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Index {
    schema: u32,
    /// Name of the workload.
    pub workload: String,
    /// Parameters that are the same in all points.
    pub params: BTreeMap<String, String>,
    /// What was swept over.
    pub over: Vec<Over>,
    /// Runs wanted of each point.
    pub repeat: u32,
    /// `done` or `interrupted`; null if the sweep was killed, or runs still.
    pub end: Option<String>,
    /// The points.
    pub points: Vec<Of>,
}

/// A parameter and its values.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Over {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Vec<String>,
}

/// One point.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Of {
    /// Its folder.
    pub folder: String,
    /// Its values.
    pub params: BTreeMap<String, String>,
    /// Its runs.
    pub runs: Vec<IndexRun>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IndexRun {
    /// Its trace, from the folder of the sweep.
    pub trace: String,
    /// `done`, `failed` or `interrupted`.
    pub outcome: String,
}

impl IndexRun {
    /// It has a trace of the whole workload.
    pub fn is_done(&self) -> bool {
        self.outcome == "done"
    }
}

impl Index {
    /// Reads that of a sweep's folder.
    pub fn read(folder: &Path) -> Result<Self, IndexError> {
        let path = folder.join(INDEX);
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MOST).read_to_end(&mut text));
        if let Err(source) = read {
            if source.kind() == io::ErrorKind::NotFound {
                let folder = folder.to_owned();
                return Err(IndexError::NotASweep { folder });
            }
            return Err(IndexError::Io { path, source });
        }
        let index: Self = match serde_json::from_slice(&text) {
            Ok(index) => index,
            Err(source) => return Err(IndexError::Json { path, source }),
        };
        if index.schema != SCHEMA {
            let found = index.schema;
            return Err(IndexError::Version { path, found });
        }
        let is_inside = |trace: &str| {
            let mut parts = Path::new(trace).components();
            parts.all(|part| matches!(part, Component::Normal(_)))
        };
        let mut runs = index.points.iter().flat_map(|point| &point.runs);
        if let Some(run) = runs.find(|run| !is_inside(&run.trace)) {
            let trace = run.trace.clone();
            return Err(IndexError::Outside { path, trace });
        }
        Ok(index)
    }
}
