//! The traces in a folder tree.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Folders below each other that are looked into.
const DEEPEST: usize = 16;

/// Every trace in a folder, in the order of their names. What is in a trace, or behind a symbolic
/// link, is not looked at.
pub fn find(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut traces = Vec::new();
    search(folder, DEEPEST, &mut traces)?;
    traces.sort();
    Ok(traces)
}

fn search(folder: &Path, depth: usize, traces: &mut Vec<PathBuf>) -> io::Result<()> {
    if folder.join("meta.json").is_file() {
        traces.push(folder.to_owned());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            search(&entry.path(), depth - 1, traces)?;
        }
    }
    Ok(())
}
