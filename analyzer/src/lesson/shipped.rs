//! The recordings that come with the program: `collector run linear -p pages=24` and the same of
//! `demand`, on Linux 6.18 with KVM-PVM, 2026-11-27.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// The guests of the lecture.
pub const NAMES: [&str; 2] = ["linear", "demand"];

/// A file of a recording: its path within it, and its bytes.
type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($name:literal) => {
        files!($name: "meta.json" "segments.jsonl" "entries/000001.parquet"
            "faults/000001.parquet" "keyframes/000001.parquet" "marks/000001.parquet"
            "pages/000001.parquet" "roots/000001.parquet" "writes/000001.parquet")
    };
    ($name:literal: $($file:literal)*) => {
        [$(($file, include_bytes!(concat!("recordings/", $name, "/", $file)) as &[u8])),*]
    };
}

const FILES: [[File; 9]; 2] = [files!("linear"), files!("demand")];

/// Recordings in a folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Unpacked(TempDir);

impl Unpacked {
    /// The recording of a name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Writes the recordings to a new folder in that for temporary files.
pub fn unpack(temporary: &Path) -> io::Result<Unpacked> {
    let folder = tempfile::Builder::new()
        .prefix("shadowscope-lesson-")
        .tempdir_in(temporary)?;
    let unpacked = Unpacked(folder);
    for (name, files) in NAMES.iter().zip(FILES) {
        for (file, bytes) in files {
            let path = unpacked.path(name).join(file);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, bytes)?;
        }
    }
    Ok(unpacked)
}
