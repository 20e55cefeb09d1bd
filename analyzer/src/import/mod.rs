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
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
    os::fd::AsFd as _,
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
    /// It is no file, and cannot be copied to one.
    #[error(
        "while copying {} to a file in {}, since it is read twice", path.display(), folder.display()
    )]
    Copy {
        /// The text.
        path: PathBuf,
        /// Where the copy would be.
        folder: PathBuf,
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

/// Writes what `text` holds to a new trace at `output`; `-` is standard input.
pub fn import(text: &Path, output: &Path, command: Vec<String>) -> Result<Imported, ImportError> {
    // Which vCPU a thread runs may be said late: the text is read twice.
    let mut source = Source::open(text, output)?;
    let mut threads = threads::Threads::default();
    source.lines(|line| {
        if let Some(line) = line::parse(line) {
            threads.see(&line);
        }
        Ok(())
    })?;
    let mut writer = write::Writer::new(output, command, threads)?;
    let total = source.lines(|line| writer.line(line))?;
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

/// A text that can be read more than once.
struct Source<'a> {
    name: &'a Path,
    file: File,
    /// Where it begins: standard input may have been read from before.
    start: u64,
}

impl<'a> Source<'a> {
    /// What is no file, as a pipe, is copied to a nameless one beside `output` first.
    fn open(name: &'a Path, output: &Path) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Read {
            path: name.to_owned(),
            source,
        };
        let file = match name.as_os_str() == "-" {
            true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            false => File::open(name),
        };
        let mut file = file.map_err(failed)?;
        if file.metadata().map_err(failed)?.is_file() {
            let start = file.stream_position().map_err(failed)?;
            return Ok(Self { name, file, start });
        }
        // A name alone has an empty parent: the current folder.
        let folder = output.parent().filter(|of| !of.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let copy = tempfile::tempfile_in(folder).map_err(|source| ImportError::Copy {
            path: name.to_owned(),
            folder: folder.to_owned(),
            source,
        });
        let mut copy = copy?;
        io::copy(&mut file, &mut copy).map_err(|source| ImportError::Copy {
            path: name.to_owned(),
            folder: folder.to_owned(),
            source,
        })?;
        Ok(Self {
            name,
            file: copy,
            start: 0,
        })
    }

    /// Every line that is no longer than a line may be; how many there are.
    fn lines(
        &mut self,
        mut each: impl FnMut(&str) -> Result<(), ImportError>,
    ) -> Result<u64, ImportError> {
        let failed = |source| ImportError::Read {
            path: self.name.to_owned(),
            source,
        };
        self.file
            .seek(SeekFrom::Start(self.start))
            .map_err(failed)?;
        let mut text = BufReader::with_capacity(1 << 20, &self.file);
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
}
