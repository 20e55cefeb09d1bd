//! `segments.jsonl`: which segments there are, and what each must look like.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::TraceError;

/// Name of the list.
pub(crate) const SEGMENTS: &str = "segments.jsonl";
/// Most rows in a segment: bounds what a hostile file can make a reader allocate.
pub(crate) const MAX_ROWS: u64 = 2 << 20;
/// Longest list of segments, bytes; a line is about 150 bytes, for one second of a kind.
const MAX_LIST: u64 = 256 << 20;

/// One segment, as its line says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Kind of its rows: the folder.
    pub kind: String,
    /// Number: the file's name, and its stretch of time.
    pub segment: u32,
    /// Rows.
    pub rows: u64,
    /// Length of the file.
    pub bytes: u64,
    /// CRC-32 (IEEE) of the file.
    pub crc32: u32,
    /// Lowest and highest sequence number.
    pub seq: [u64; 2],
    /// Earliest and latest time, ns.
    pub time_ns: [u64; 2],
}

impl Segment {
    /// Name within the trace.
    pub(crate) fn file(&self) -> String {
        format!("{}/{:06}.parquet", self.kind, self.segment)
    }
}

/// Reads the list. A last line without its newline was cut while it was written, and is left out.
pub(crate) fn read(trace: &Path) -> Result<Vec<Segment>, TraceError> {
    let path = trace.join(SEGMENTS);
    let bytes = read_file(&path, MAX_LIST)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut segments = Vec::new();
    let mut seen = HashSet::new();
    for (number, line) in whole.lines().enumerate() {
        let error = |why: String| TraceError::Manifest {
            path: path.clone(),
            line: number + 1,
            why,
        };
        let segment: Segment =
            serde_json::from_str(line).map_err(|source| error(source.to_string()))?;
        if segment.rows > MAX_ROWS {
            return Err(error(format!(
                "{} rows, more than the {MAX_ROWS} a segment may have",
                segment.rows
            )));
        }
        if segment.kind.is_empty()
            || !segment
                .kind
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            return Err(error(format!(
                "`{}` is no kind of record",
                segment.kind.escape_debug()
            )));
        }
        if !seen.insert((segment.kind.clone(), segment.segment)) {
            return Err(error(format!("{} is listed twice", segment.file())));
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// The whole of an ordinary file. A trace from elsewhere may hold links, pipes and devices: those
/// are refused, and nothing longer than `limit` bytes is read.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, TraceError> {
    let failed = || TraceError::io("reading", path);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(failed())?;
    let metadata = file.metadata().map_err(failed())?;
    if !metadata.is_file() || metadata.len() > limit {
        let why = format!("not an ordinary file of at most {limit} bytes");
        return Err(failed()(io::Error::new(io::ErrorKind::InvalidData, why)));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(failed())?;
    Ok(bytes)
}
