//! The kernel's own trace text as a trace: what `perf script` and tracefs print of the events
//! `kvmmmu` and `kvm`, for people who may not load eBPF.
//!
//! The text has no links between shadow tables, no CR3, no root and no keyframe, so nothing is
//! replayed and nothing is verified. It has the walks, the stores of leaves and the outcomes, so
//! faults can be counted and timed. A fault of which the text does not show the outcome is counted
//! as not classified, and has no row.
//!
//! ```text
//! line     a line as the kernel prints it: thread, time, event, arguments
//! threads  which thread runs which vCPU of which VM
//! faults   the events of one thread to its faults
//! write    rows to a trace
//! ```

mod faults;
mod line;
mod threads;
mod write;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use trace::{Imported, TraceError};

/// Longest line that is read, bytes; the kernel's are shorter than 1 KiB.
const MAX_LINE: u64 = 1 << 16;

/// Why a text could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("while reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No line is an event of KVM's shadow MMU.
    #[error("{} has no event of kvmmmu in {lines} lines", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// Lines read.
        lines: u64,
    },
    /// The trace cannot be written.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Writes what `text` holds to a new trace at `output`.
pub fn import(text: &Path, output: &Path, command: Vec<String>) -> Result<Imported, ImportError> {
    // Which vCPU a thread runs may be said late: the text is read twice.
    let mut threads = threads::Threads::default();
    lines(text, |line| {
        if let Some(line) = line::parse(line) {
            threads.see(&line);
        }
        Ok(())
    })?;
    let mut writer = write::Writer::new(output, command, threads)?;
    let total = lines(text, |line| writer.line(line))?;
    let imported = writer.finish(total)?;
    if imported.events.is_empty() {
        // Nothing is kept that says nothing.
        let removed = std::fs::remove_dir_all(output);
        removed.map_err(|source| ImportError::Read {
            path: output.to_owned(),
            source,
        })?;
        return Err(ImportError::Nothing {
            path: text.to_owned(),
            lines: total,
        });
    }
    Ok(imported)
}

/// Every line of a text that is no longer than a line may be; how many there are.
fn lines(
    path: &Path,
    mut each: impl FnMut(&str) -> Result<(), ImportError>,
) -> Result<u64, ImportError> {
    let failed = |source| ImportError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let mut bytes = Vec::new();
    let mut count = 0;
    loop {
        bytes.clear();
        let mut limited = io::Read::take(&mut text, MAX_LINE);
        if limited.read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
            return Ok(count);
        }
        count += 1;
        each(String::from_utf8_lossy(&bytes).trim_end())?;
    }
}
