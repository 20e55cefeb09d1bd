//! `sweep.json`: what was run, and where its traces are.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use serde::Serialize;

use super::points::Over;
use crate::privileges;

/// Its name in the folder of the sweep.
const NAME: &str = "sweep.json";

/// The whole file.
#[derive(Debug, Serialize)]
pub struct Index {
    /// Version of this file. Additive changes keep it.
    pub schema: u32,
    /// Name of the workload.
    pub workload: String,
    /// Parameters that are the same in all points.
    pub params: BTreeMap<String, String>,
    /// What was swept over.
    pub over: Vec<Over>,
    /// Runs wanted of each point.
    pub repeat: u32,
    /// Runs of each point before these, which were not recorded.
    pub warm_up: u32,
    /// Seed of the order of the runs.
    pub seed: u64,
    /// Why it ended: `done` or `interrupted`; null while it runs.
    pub end: Option<&'static str>,
    /// The points.
    pub points: Vec<Of>,
}

/// One point.
#[derive(Debug, Serialize)]
pub struct Of {
    /// Its folder.
    pub folder: String,
    /// Its values.
    pub params: BTreeMap<String, String>,
    /// Its runs, in the order in which they were made.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Debug, Serialize)]
pub struct Run {
    /// Its trace, from the folder of the sweep.
    pub trace: String,
    /// Its place in the order of all recorded runs, from 1.
    pub order: u64,
    /// `done`, `failed` or `interrupted`.
    pub outcome: &'static str,
    /// Exit code of the recorder; null if a signal ended it.
    pub exit_code: Option<i32>,
}

impl Index {
    /// Writes it whole, or leaves what was there.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(NAME);
        let doing = || format!("while writing {}", path.display());
        let mut text = serde_json::to_string_pretty(self).with_context(doing)?;
        text.push('\n');
        privileges::as_user(|| Self::replace(folder, &path, &text))?.with_context(doing)
    }

    fn replace(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
        let unfinished = folder.join(".sweep.json.new");
        // Left by a sweep that was killed.
        if unfinished.symlink_metadata().is_ok() {
            fs::remove_file(&unfinished)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    }
}
