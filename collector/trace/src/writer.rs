//! Writing a trace so that a cut at any moment leaves a readable one.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use events::Seq;

use crate::{
    Batch, Begin, Dropped, Kept, Meta, Row, Segment, TraceError,
    encode::encode,
    kinds::each_kind,
    segments::{self, SEGMENTS},
};

/// The `meta.json` of an open trace: what is known of a recording changes while it grows.
#[derive(Clone, Debug)]
pub struct MetaFile {
    folder: PathBuf,
    /// As it was written last. What was kept is known to whoever drops segments, all else to the
    /// recorder.
    written: Arc<Mutex<Meta>>,
}

impl MetaFile {
    /// Adds [`SYMBOLS`] beside it.
    pub fn write_symbols(&self, text: &str) -> Result<(), TraceError> {
        write_file(&self.folder.join(SYMBOLS), text.as_bytes())
    }

    /// Replaces it, but for [`Meta::kept`]: see [`MetaFile::keep`].
    pub fn write(&self, meta: &Meta) -> Result<(), TraceError> {
        // Whoever panicked in here left whole metadata.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = written.kept.take();
        *written = Meta {
            kept,
            ..meta.clone()
        };
        self.replace(&written)
    }

    /// Changes what it says of the part that is kept.
    pub fn keep(&self, change: impl FnOnce(&mut Kept)) -> Result<(), TraceError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        change(written.kept.get_or_insert_default());
        self.replace(&written)
    }

    /// What it says of the part that is kept.
    pub fn kept(&self) -> Option<Kept> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.kept.clone()
    }

    fn replace(&self, meta: &Meta) -> Result<(), TraceError> {
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
    meta: MetaFile,
    list: File,
    next: u32,
    /// After the highest number of all rows so far.
    next_seq: Seq,
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
            meta: MetaFile {
                folder: path.to_owned(),
                written: Arc::new(Mutex::new(meta.clone())),
            },
            list,
            next: 1,
            next_seq: Seq(0),
            bytes: 0,
            segments: 0,
            rows: 0,
        };
        writer.meta.write(meta)?;
        sync_folder(path.parent().unwrap_or(path))?;
        Ok(writer)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all segments that are there.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number after the highest that is on disk.
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// Segments that are there.
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
        self.meta.clone()
    }

    /// Drops the oldest stretches: all that have only numbers below `begin.seq`. What is left of
    /// those numbers is for readers to leave out. Does nothing if there is no such stretch.
    pub fn drop_before(&mut self, begin: Begin) -> Result<(), TraceError> {
        let listed = segments::read(&self.path)?;
        let first = listed.iter().filter(|of| of.seq[1] >= begin.seq);
        let first = first.map(|of| of.segment).min().unwrap_or(u32::MAX);
        let (kept, gone): (Vec<_>, Vec<_>) = listed.into_iter().partition(|of| of.segment >= first);
        if gone.is_empty() {
            return Ok(());
        }
        let sum = |of: fn(&Segment) -> u64| gone.iter().map(of).sum::<u64>();
        let dropped = Dropped {
            segments: gone.len() as u64,
            rows: sum(|of| of.rows),
            bytes: sum(|of| of.bytes),
        };
        // A cut in between leaves too much: rows that are left out, then files without a line.
        self.meta.keep(|kept| {
            kept.begin = Some(begin);
            kept.dropped.segments += dropped.segments;
            kept.dropped.rows += dropped.rows;
            kept.dropped.bytes += dropped.bytes;
        })?;
        self.replace_list(&kept)?;
        for segment in &gone {
            let path = self.path.join(segment.file());
            fs::remove_file(&path).map_err(TraceError::io("removing", path))?;
        }
        self.segments -= dropped.segments;
        self.rows -= dropped.rows;
        self.bytes -= dropped.bytes;
        Ok(())
    }

    /// Drops the oldest stretch, wherever keyframes are, and says whether there was one to drop. The
    /// newest stays, and so does what reaches to `until_ns`.
    pub fn drop_oldest(&mut self, until_ns: Option<u64>) -> Result<bool, TraceError> {
        let listed = segments::read(&self.path)?;
        let numbers = || listed.iter().map(|of| of.segment);
        let (Some(oldest), Some(newest)) = (numbers().min(), numbers().max()) else {
            return Ok(false);
        };
        let of_oldest = || listed.iter().filter(|of| of.segment == oldest);
        let last = |of: fn(&Segment) -> u64| of_oldest().map(of).max().unwrap_or_default();
        let end = last(|of| of.time_ns[1]);
        if oldest == newest || until_ns.is_some_and(|until| end >= until) {
            return Ok(false);
        }
        self.drop_before(Begin {
            seq: last(|of| of.seq[1]).saturating_add(1),
            time_ns: end,
            keyframe: false,
        })?;
        Ok(true)
    }

    fn replace_list(&mut self, segments: &[Segment]) -> Result<(), TraceError> {
        let path = self.path.join(SEGMENTS);
        let mut text = String::new();
        for segment in segments {
            text += &line(segment, &path)?;
        }
        write_file(&path, text.as_bytes())?;
        let list = OpenOptions::new().append(true).open(&path);
        self.list = list.map_err(TraceError::io("opening", path))?;
        Ok(())
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
        let line = line(&segment, &path)?;
        let list = self.path.join(SEGMENTS);
        self.list
            .write_all(line.as_bytes())
            .map_err(TraceError::io("writing", &list))?;
        self.list
            .sync_data()
            .map_err(TraceError::io("syncing", &list))?;
        write_file(&path, &bytes)?;
        self.next_seq = self.next_seq.max(Seq(seq[1].saturating_add(1)));
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

/// The line of a segment, whose file an error names.
fn line(segment: &Segment, path: &Path) -> Result<String, TraceError> {
    let line = serde_json::to_string(segment).map_err(|source| TraceError::Meta {
        path: path.to_owned(),
        source,
    })?;
    Ok(line + "\n")
}

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
