//! Reading a trace, whoever made it: any bytes give an error or a result.

use std::{
    fs,
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use polars::prelude::*;

use crate::{Meta, Records, Row, SCHEMA_VERSION, Segment, TraceError, segments};

/// Largest `meta.json` read.
const MAX_META: u64 = 64 << 20;

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
        let length = match fs::metadata(&meta_path) {
            Ok(metadata) => metadata.len(),
            Err(_) if !path.exists() => {
                let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(TraceError::io("opening", path)(missing));
            }
            Err(_) => return Err(TraceError::NotATrace { path: path.to_owned() }),
        };
        if length > MAX_META {
            return Err(TraceError::NotATrace { path: path.to_owned() });
        }
        let text = fs::read(&meta_path).map_err(TraceError::io("reading", &meta_path))?;
        let meta: Meta = serde_json::from_slice(&text)
            .map_err(|source| TraceError::Meta { path: meta_path.clone(), source })?;
        if meta.schema == 0 || meta.schema > SCHEMA_VERSION {
            return Err(TraceError::Version { path: meta_path, found: meta.schema, known: SCHEMA_VERSION });
        }
        let mut listed = segments::read(path)?;
        // A cut between the line and the file leaves a line too many, and only at the end.
        let missing = if meta.complete {
            Vec::new()
        } else {
            let last = listed.iter().map(|segment| segment.segment).max().unwrap_or(0);
            let cut = |segment: &Segment| segment.segment == last && !path.join(segment.file()).exists();
            let (missing, there) = listed.into_iter().partition(cut);
            listed = there;
            missing
        };
        Ok(Self { path: path.to_owned(), meta, segments: listed, missing })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `meta.json`.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The recorder did not end in good order: what follows the last segment is lost.
    pub fn was_cut(&self) -> bool {
        !self.meta.complete
    }

    /// Segments that were announced, but cut before they were written.
    pub fn missing(&self) -> &[Segment] {
        &self.missing
    }

    /// Every segment.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Rows of one kind, by the list.
    pub fn rows(&self, kind: &str) -> u64 {
        self.of_kind(kind).map(|segment| segment.rows).sum()
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Earliest and latest time of any record, ns.
    pub fn span_ns(&self) -> Option<[u64; 2]> {
        self.segments
            .iter()
            .map(|segment| segment.time_ns)
            .reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])])
    }

    /// All records of all kinds in the order of their sequence numbers.
    pub fn records(&self) -> Records<'_> {
        Records::new(self)
    }

    /// All rows of one kind as one frame; `columns` limits what is decoded.
    pub fn frame<R: Row>(&self, columns: Option<&[&str]>) -> Result<DataFrame, TraceError> {
        let mut whole: Option<DataFrame> = None;
        for segment in self.of_kind(R::KIND) {
            let frame = self.read_segment(segment, columns)?;
            match &mut whole {
                None => whole = Some(frame),
                Some(whole) => {
                    whole.vstack_mut(&frame).map_err(|error| self.damaged(segment, error.to_string()))?;
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
                empty.map_err(|error| TraceError::Encode { path, why: error.to_string() })
            }
        }
    }

    /// The rows of one segment.
    pub(crate) fn rows_of<R: Row>(&self, segment: &Segment) -> Result<Vec<R>, TraceError> {
        let frame = self.read_segment(segment, None)?;
        R::from_frame(&frame, &self.path.join(segment.file()))
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Segment> {
        self.segments.iter().filter(move |segment| segment.kind == kind)
    }

    fn damaged(&self, segment: &Segment, why: String) -> TraceError {
        let before = self
            .of_kind(&segment.kind)
            .filter(|other| other.segment < segment.segment)
            .map(|other| other.rows)
            .sum();
        TraceError::Damaged { path: self.path.join(segment.file()), why, before }
    }

    fn read_segment(&self, segment: &Segment, columns: Option<&[&str]>) -> Result<DataFrame, TraceError> {
        let path = self.path.join(segment.file());
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) => return Err(self.damaged(segment, format!("cannot be opened: {error}"))),
        };
        if length != segment.bytes {
            let why = format!("{length} bytes, written with {}", segment.bytes);
            return Err(self.damaged(segment, why));
        }
        let bytes = fs::read(&path).map_err(TraceError::io("reading", &path))?;
        let crc32 = crc32fast::hash(&bytes);
        if crc32 != segment.crc32 {
            let why = format!("checksum {crc32:08x}, written with {:08x}", segment.crc32);
            return Err(self.damaged(segment, why));
        }
        let frame = decode(bytes, segment.rows, columns).map_err(|why| self.damaged(segment, why))?;
        if frame.height() as u64 != segment.rows {
            let why = format!("{} rows, written with {}", frame.height(), segment.rows);
            return Err(self.damaged(segment, why));
        }
        Ok(frame)
    }
}

/// Parquet to frame. Polars trusts a file's metadata, so a forged one may panic in it.
fn decode(bytes: Vec<u8>, rows: u64, columns: Option<&[&str]>) -> Result<DataFrame, String> {
    let columns = columns.map(|columns| columns.iter().map(|&column| column.to_owned()).collect());
    let decoding = AssertUnwindSafe(|| {
        let mut reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
        let found = reader.num_rows()? as u64;
        polars_ensure!(found == rows, ComputeError: "{found} rows, written with {rows}");
        reader.with_columns(columns).finish()
    });
    match catch_unwind(decoding) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the Parquet decoder gave up".to_owned()),
    }
}
