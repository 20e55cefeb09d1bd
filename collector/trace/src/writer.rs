//! Writing a trace so that a cut at any moment leaves a readable one.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    Batch, Meta, Row, Segment, TraceError, encode::encode, kinds::each_kind, segments::SEGMENTS,
};

/// The `meta.json` of an open trace: what is known of a recording changes while it grows.
#[derive(Clone, Debug)]
pub struct MetaFile {
    folder: PathBuf,
}

impl MetaFile {
    /// Adds [`SYMBOLS`] beside it.
    pub fn write_symbols(&self, text: &str) -> Result<(), TraceError> {
        write_file(&self.folder.join(SYMBOLS), text.as_bytes())
    }

    /// Replaces it.
    pub fn write(&self, meta: &Meta) -> Result<(), TraceError> {
        let path = self.folder.join("meta.json");
        let text = serde_json::to_vec_pretty(meta).map_err(|source| TraceError::Meta {
            path: path.clone(),
            source,
        })?;
        write_file(&path, &text)
    }
}

/// File with the names of the guest's functions, as `nm -S` prints them: a line
/// `ADDRESS SIZE TYPE NAME` for each, the numbers in hexadecimal without `0x`, the type `t`.
pub const SYMBOLS: &str = "symbols.txt";

/// An open trace that grows by segments.
#[derive(Debug)]
pub struct TraceWriter {
    path: PathBuf,
    list: File,
    next: u32,
    bytes: u64,
    segments: u64,
    rows: u64,
}

impl TraceWriter {
    /// Makes the folder (which must not be there) and writes the first `meta.json`.
    pub fn create(path: &Path, meta: &Meta) -> Result<Self, TraceError> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(TraceError::Exists {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(TraceError::io("creating", path)(error)),
        }
        let list_path = path.join(SEGMENTS);
        let list = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&list_path)
            .map_err(TraceError::io("creating", list_path))?;
        let writer = Self {
            path: path.to_owned(),
            list,
            next: 1,
            bytes: 0,
            segments: 0,
            rows: 0,
        };
        writer.meta_file().write(meta)?;
        sync_folder(path.parent().unwrap_or(path))?;
        Ok(writer)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all segments so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Segments so far.
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// Rows in them.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes one stretch of time: a segment for each kind that has rows.
    pub fn write(&mut self, batch: &Batch) -> Result<(), TraceError> {
        if batch.rows() == 0 {
            return Ok(());
        }
        let number = self.next;
        self.next += 1;
        self.write_kinds(number, batch)
    }

    /// Its `meta.json`.
    pub fn meta_file(&self) -> MetaFile {
        MetaFile {
            folder: self.path.clone(),
        }
    }

    fn write_kind<R: Row>(&mut self, number: u32, rows: &[R]) -> Result<(), TraceError> {
        let (Some(seq), Some(time)) = (
            min_max(rows.iter().map(|row| row.seq().0)),
            min_max(rows.iter().map(|row| row.time().0)),
        ) else {
            return Ok(());
        };
        let mut segment = Segment {
            kind: R::KIND.to_owned(),
            segment: number,
            rows: rows.len() as u64,
            seq,
            time_ns: time,
            ..Segment::default()
        };
        let path = self.path.join(segment.file());
        let folder = self.path.join(R::KIND);
        if !folder.is_dir() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&folder)
                .map_err(TraceError::io("creating", &folder))?;
        }
        let bytes = encode(rows).map_err(|error| TraceError::Encode {
            path: path.clone(),
            why: error.to_string(),
        })?;
        segment.bytes = bytes.len() as u64;
        segment.crc32 = crc32fast::hash(&bytes);

        // The line first: a segment without a line would have nothing to be checked against,
        // a line without its segment is a cut.
        let mut line = serde_json::to_string(&segment).map_err(|source| TraceError::Meta {
            path: path.clone(),
            source,
        })?;
        line.push('\n');
        let list = self.path.join(SEGMENTS);
        self.list
            .write_all(line.as_bytes())
            .map_err(TraceError::io("writing", &list))?;
        self.list
            .sync_data()
            .map_err(TraceError::io("syncing", &list))?;
        write_file(&path, &bytes)?;
        self.bytes += segment.bytes;
        self.segments += 1;
        self.rows += segment.rows;
        Ok(())
    }
}

macro_rules! write_kinds {
    ($($field:ident $kind:ident $row:ident $item:ident)+) => {
        impl TraceWriter {
            fn write_kinds(&mut self, number: u32, batch: &Batch) -> Result<(), TraceError> {
                $(self.write_kind(number, &batch.$field)?;)+
                Ok(())
            }
        }
    };
}
each_kind!(write_kinds);

/// The name of a file that is being written. Readers of Parquet folders (Spark, pyarrow, globs) pass
/// over names that begin with a dot, so what a crash leaves is not read twice.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

/// Temporary name, sync, rename, sync of the folder. A failure leaves no file.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), TraceError> {
    let temporary = temporary(path);
    let written = write_new(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(TraceError::io("naming", path)));
    if written.is_err() {
        // It may not even be there; the first error is the one to report.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_folder(path.parent().unwrap_or(path))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), TraceError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(TraceError::io("creating", path))?;
    file.write_all(bytes)
        .map_err(TraceError::io("writing", path))?;
    file.sync_data().map_err(TraceError::io("syncing", path))
}

/// A name is on disk once its folder is.
fn sync_folder(path: &Path) -> Result<(), TraceError> {
    let folder = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(TraceError::io("syncing", folder))
}

fn min_max(values: impl Iterator<Item = u64>) -> Option<[u64; 2]> {
    values.fold(None, |range: Option<[u64; 2]>, value| {
        Some(range.map_or([value, value], |[low, high]| {
            [low.min(value), high.max(value)]
        }))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_file_that_is_being_written_has_a_name_that_readers_pass_over() {
        let path = Path::new("d.trace/faults/000001.parquet");
        let hidden = Path::new("d.trace/faults/.000001.parquet.tmp");
        assert_eq!(super::temporary(path), hidden);
    }
}
