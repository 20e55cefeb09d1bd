//! Copies of traces, damaged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use maker::{Maker, Shape, Vms};
use tempfile::TempDir;

use super::{files, rows, values};
use crate::{kept::copy::Copy, support::recording};

/// Recordings that are damaged.
const RECORDINGS: [&str; 11] = [
    "demand",
    "alias-lab",
    "boot-lab",
    "dirty-lab",
    "flood-lab",
    "keyframes",
    "lab",
    "loads",
    "roots",
    "sync-lab",
    "unsync",
];

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
}

/// A whole trace.
#[derive(Debug)]
pub struct Origin {
    /// Its name.
    pub name: &'static str,
    path: PathBuf,
    rows: Copy,
    /// Where a made-up one is.
    _folder: Option<TempDir>,
}

/// A trace in a folder of its own.
#[derive(Debug)]
pub struct Damaged(TempDir);

impl Damaged {
    /// An empty folder: in memory, if that can be, since a trace is synced file by file.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        Self(match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        })
    }

    /// Where the trace is.
    pub fn path(&self) -> PathBuf {
        self.0.path().join("d.trace")
    }
}

/// The traces that are damaged: real ones, and made-up ones of several VMs and segments.
pub fn origins() -> Vec<Origin> {
    let kept = RECORDINGS.map(|name| Origin {
        name,
        path: recording(name),
        rows: Copy::of(name),
        _folder: None,
    });
    let two = Shape {
        vms: Vms::Attached,
        pages: 60,
        segment: 40,
        ..Shape::default()
    };
    let drifts = Shape {
        pages: 600,
        passes: 3,
        segment: 1_000,
        drift: Some(5),
        late: Some(9),
        lose: Some(30),
        ..Shape::default()
    };
    let made_up = [("two VMs", two), ("drift", drifts)].map(|(name, shape)| {
        let folder = Damaged::new();
        let path = folder.path();
        Maker::new(shape).write(&path).unwrap();
        Origin {
            name,
            rows: Copy::read(&path),
            path,
            _folder: Some(folder.0),
        }
    });
    kept.into_iter().chain(made_up).collect()
}

impl Origin {
    /// A copy as it is.
    pub fn whole(&self) -> Damaged {
        let damaged = Damaged::new();
        copy(&self.path, &damaged.path());
        damaged
    }

    /// A damaged copy.
    pub fn damaged(&self, how: Damage, random: &mut Rng) -> Damaged {
        if how == Damage::Rows {
            let damaged = Damaged::new();
            rows::write(&self.rows, &damaged.path(), random);
            return damaged;
        }
        let damaged = self.whole();
        let path = damaged.path();
        match how {
            Damage::Files => files::damage(&path, random),
            Damage::Parquet => files::damage_parquet(&path, random),
            Damage::Metadata => values::damage_metadata(&path, random),
            Damage::List => values::damage_list(&path, random),
            Damage::Symbols => files::damage_symbols(&path, random),
            Damage::Rows => {}
        }
        damaged
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), &target).unwrap()),
        }
    }
}
