//! Copies of traces, damaged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use maker::{Maker, Shape, Vms, damage::Damage};
use tempfile::TempDir;

use crate::support::recording;

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

/// A whole trace.
#[derive(Debug)]
pub struct Origin {
    /// Its name.
    pub name: &'static str,
    path: PathBuf,
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
        let damaged = self.whole();
        how.apply(&damaged.path(), random);
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
