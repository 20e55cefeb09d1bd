//! Reading a trace, whoever made it: any bytes give an error or a result.

use std::{
    any::Any,
    cell::Cell,
    io::{self, Cursor},
    panic::{self, AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use polars::prelude::*;

use crate::{
    End, Meta, Part, Records, Row, SCHEMA_VERSION, Segment, Stretches, TraceError, segments,
    writer::temporary,
};

/// Largest `meta.json` read.
const MAX_META: u64 = 64 << 20;
/// Largest segment read: two million rows of every column, not compressed.
const MAX_SEGMENT: u64 = 1 << 30;

/// Largest list of symbols read.
const MAX_SYMBOLS: u64 = 256 << 20;

/// Rows from which on the columns of a segment are decoded on several threads.
const PARALLEL: u64 = 1 << 16;

/// An open trace.
#[derive(Debug)]
pub struct Trace {
    path: PathBuf,
    meta: Meta,
    segments: Vec<Segment>,
    missing: Vec<Segment>,
}

impl Trace {
    /// Reads the metadata and the list of segments.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let meta_path = path.join("meta.json");
        if meta_path.symlink_metadata().is_err() {
            return Err(if path.exists() {
                TraceError::NotATrace {
                    path: path.to_owned(),
                }
            } else {
                TraceError::io("opening", path)(std::io::ErrorKind::NotFound.into())
            });
        }
        let text = segments::read_file(&meta_path, MAX_META)?;
        let meta: Meta = serde_json::from_slice(&text).map_err(|source| TraceError::Meta {
            path: meta_path.clone(),
            source,
        })?;
        if meta.schema == 0 || meta.schema > SCHEMA_VERSION {
            return Err(TraceError::Version {
                path: meta_path,
                found: meta.schema,
                known: SCHEMA_VERSION,
            });
        }
        let mut listed = segments::read(path)?;
        let missing = match &meta.end {
            Some(end) => {
                check_totals(path, end, &listed)?;
                Vec::new()
            }
            None => cut_segments(path, &mut listed),
        };
        Ok(Self {
            path: path.to_owned(),
            meta,
            segments: listed,
            missing,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `meta.json`.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The list of the guest's functions with its path, if the recorder knew them; see
    /// [`crate::SYMBOLS`].
    pub fn symbols(&self) -> Result<Option<(PathBuf, Vec<u8>)>, TraceError> {
        let path = self.path.join(crate::SYMBOLS);
        match segments::read_file(&path, MAX_SYMBOLS) {
            Ok(list) => Ok(Some((path, list))),
            Err(TraceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The recorder did not finish: what follows the last segment is lost.
    pub fn was_cut(&self) -> bool {
        !self.meta.complete
    }

    /// Segments that were announced, but cut before they were written.
    pub fn missing(&self) -> &[Segment] {
        &self.missing
    }

    /// Files that the recorder was writing when it was stopped. They are part of nothing, and readers
    /// of the folder pass over their names: they may be removed.
    pub fn left_over(&self) -> Vec<PathBuf> {
        let names = ["meta.json".to_owned(), crate::SYMBOLS.to_owned()];
        let segments = self.missing.iter().map(Segment::file);
        let written = names.into_iter().chain(segments);
        written
            .map(|name| temporary(&self.path.join(name)))
            .filter(|path| path.symlink_metadata().is_ok())
            .collect()
    }

    /// Every segment.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Rows of one kind, by the list.
    pub fn rows(&self, kind: &str) -> u64 {
        self.of_kind(kind)
            .fold(0, |sum, segment| sum.saturating_add(segment.rows))
    }

    /// Rows of all kinds, by the list.
    pub fn listed_rows(&self) -> u64 {
        self.segments
            .iter()
            .fold(0, |sum, segment| sum.saturating_add(segment.rows))
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .fold(0, |sum, segment| sum.saturating_add(segment.bytes))
    }

    /// Earliest and latest time of any record, ns.
    pub fn span_ns(&self) -> Option<[u64; 2]> {
        let [first, last] = self
            .segments
            .iter()
            .map(|segment| segment.time_ns)
            .reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])])?;
        let begin = self.meta.begin().map_or(first, |begin| begin.time_ns);
        Some([first.max(begin.min(last)), last])
    }

    /// All records of all kinds in the order of their sequence numbers.
    pub fn records(&self) -> Records<'_> {
        Records::new(self.stretches(Part::default()))
    }

    /// What [`Records`] are made of.
    pub fn stretches(&self, part: Part) -> Stretches<'_> {
        Stretches::new(self, part)
    }

    /// All rows of one kind as one frame; `columns` limits what is decoded.
    pub fn frame<R: Row>(&self, columns: Option<&[&str]>) -> Result<DataFrame, TraceError> {
        let mut whole: Option<DataFrame> = None;
        for segment in self.of_kind(R::KIND) {
            let frame = self.segment::<R>(segment, columns)?;
            match &mut whole {
                None => whole = Some(frame),
                Some(whole) => {
                    whole
                        .vstack_mut(&frame)
                        .map_err(|error| self.damaged(segment, error.to_string()))?;
                }
            }
        }
        match whole {
            Some(frame) => Ok(frame),
            None => {
                let empty = R::to_frame(&[]).and_then(|frame| match columns {
                    Some(columns) => frame.select(columns.iter().copied()),
                    None => Ok(frame),
                });
                let path = self.path.join(R::KIND);
                empty.map_err(|error| TraceError::Encode {
                    path,
                    why: error.to_string(),
                })
            }
        }
    }

    /// The rows of one segment.
    pub fn segment_rows<R: Row>(&self, segment: &Segment) -> Result<Vec<R>, TraceError> {
        let frame = self.segment::<R>(segment, None)?;
        R::from_frame(&frame, &self.path.join(segment.file()))
    }

    /// The segments of one kind, as they are listed.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Segment> {
        self.segments
            .iter()
            .filter(move |segment| segment.kind == kind)
    }

    fn damaged(&self, segment: &Segment, why: String) -> TraceError {
        let before = self
            .of_kind(&segment.kind)
            .filter(|other| other.segment < segment.segment)
            .map(|other| other.rows)
            .sum();
        TraceError::Damaged {
            path: self.path.join(segment.file()),
            why,
            before,
        }
    }

    /// One segment in its columns; `columns` limits what is decoded.
    pub fn segment<R: Row>(
        &self,
        segment: &Segment,
        columns: Option<&[&str]>,
    ) -> Result<DataFrame, TraceError> {
        let path = self.path.join(segment.file());
        let bytes = match segments::read_file(&path, segment.bytes.min(MAX_SEGMENT)) {
            Ok(bytes) => bytes,
            Err(TraceError::Io { source, .. })
                if source.kind() != std::io::ErrorKind::InvalidData =>
            {
                return Err(self.damaged(segment, format!("cannot be read: {source}")));
            }
            Err(_) => {
                let why = format!("not a file of {} bytes, as it was written", segment.bytes);
                return Err(self.damaged(segment, why));
            }
        };
        if bytes.len() as u64 != segment.bytes {
            let why = format!("{} bytes, written with {}", bytes.len(), segment.bytes);
            return Err(self.damaged(segment, why));
        }
        let crc32 = crc32fast::hash(&bytes);
        if crc32 != segment.crc32 {
            let why = format!("checksum {crc32:08x}, written with {:08x}", segment.crc32);
            return Err(self.damaged(segment, why));
        }
        let begin = self.meta.begin().map(|begin| begin.seq);
        let begin = begin.filter(|begin| segment.seq[0] < *begin);
        let wanted = match (columns, begin) {
            (Some(columns), Some(_)) => Some([columns, &["seq"]].concat()),
            _ => columns.map(<[_]>::to_vec),
        };
        let frame = decode::<R>(bytes, segment.rows, wanted.as_deref())
            .map_err(|why| self.damaged(segment, why))?;
        if frame.height() as u64 != segment.rows {
            let why = format!("{} rows, written with {}", frame.height(), segment.rows);
            return Err(self.damaged(segment, why));
        }
        let Some(begin) = begin else {
            return Ok(frame);
        };
        from(&frame, begin, columns).map_err(|error| self.damaged(segment, error.to_string()))
    }
}

/// The rows from a number on, in the columns asked for: of those before, some were dropped.
fn from(frame: &DataFrame, begin: u64, columns: Option<&[&str]>) -> PolarsResult<DataFrame> {
    let kept = frame.filter(&frame.column("seq")?.u64()?.gt_eq(begin))?;
    let wanted = |name: &str| columns.is_none_or(|columns| columns.contains(&name));
    let names = kept.get_column_names().into_iter();
    kept.select(names.filter(|name| wanted(name)).cloned())
}

/// A finished trace states how many segments and rows it has.
fn check_totals(path: &Path, end: &End, listed: &[Segment]) -> Result<(), TraceError> {
    let rows = listed
        .iter()
        .fold(0u64, |sum, segment| sum.saturating_add(segment.rows));
    let say = |segments: u64, rows: u64| format!("{segments} segments with {rows} rows");
    let (found, expected) = (say(listed.len() as u64, rows), say(end.segments, end.rows));
    if found == expected {
        return Ok(());
    }
    Err(TraceError::Incomplete {
        path: path.join(segments::SEGMENTS),
        found,
        expected,
    })
}

/// A cut leaves lines without files, and only at the end: takes them off the list.
fn cut_segments(path: &Path, listed: &mut Vec<Segment>) -> Vec<Segment> {
    let there = |segment: &Segment| path.join(segment.file()).symlink_metadata().is_ok();
    let whole = listed.iter().rposition(there).map_or(0, |last| last + 1);
    listed.split_off(whole)
}

/// Parquet to frame. Polars trusts a file's metadata, so a forged one may panic in it.
/// Only columns of the schema are decoded, whatever else the file holds.
fn decode<R: Row>(
    bytes: Vec<u8>,
    rows: u64,
    columns: Option<&[&str]>,
) -> Result<DataFrame, String> {
    let decoding = AssertUnwindSafe(|| {
        // Small segments are not worth waking other threads up.
        let strategy = match rows {
            0..PARALLEL => ParallelStrategy::None,
            _ => ParallelStrategy::Columns,
        };
        let mut reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(strategy);
        let found = reader.num_rows()? as u64;
        polars_ensure!(found == rows, ComputeError: "{found} rows, written with {rows}");
        let schema = reader.schema()?;
        let wanted = R::COLUMNS
            .iter()
            .map(|column| column.name)
            .filter(|name| columns.is_none_or(|columns| columns.contains(name)))
            .filter(|name| schema.contains(name))
            .map(str::to_owned)
            .collect();
        reader.with_columns(Some(wanted)).finish()
    });
    match quietly(decoding) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(payload) => Err(format!("the Parquet decoder gave up: {}", words(&*payload))),
    }
}

/// What a panic said.
fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("without a reason")
}

/// Threads that are in the decoder.
static DECODERS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread is in the decoder.
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Catches a panic of the decoder, of which nothing is printed: it is the file's fault, and becomes
/// an error. Panics elsewhere are reported as before.
fn quietly<T>(decoding: AssertUnwindSafe<impl FnOnce() -> T>) -> thread::Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // Polars passes a panic of its own threads on to the one that waits for them.
            let is_polars = |name: &str| name.starts_with("polars-");
            let helps = || thread::current().name().is_some_and(is_polars);
            let is_decoder = DECODING.get() || (DECODERS.load(Ordering::Relaxed) > 0 && helps());
            if !is_decoder {
                before(panic);
            }
        }));
    });
    DECODING.set(true);
    DECODERS.fetch_add(1, Ordering::Relaxed);
    let result = catch_unwind(decoding);
    DECODERS.fetch_sub(1, Ordering::Relaxed);
    DECODING.set(false);
    result
}
