//! `segments.jsonl`: which segments there are, and what each must look like.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::TraceError;

/// Name of the list.
pub(crate) const SEGMENTS: &str = "segments.jsonl";
/// Most rows in a segment: bounds what a hostile file can make a reader allocate.
pub(crate) const MAX_ROWS: u64 = 16 << 20;
/// Longest list of segments, bytes; a line is about 150 bytes and stands for a second.
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

/// Reads the list. A last line without its newline was cut while it was written: it does not count.
pub(crate) fn read(trace: &Path) -> Result<Vec<Segment>, TraceError> {
    let path = trace.join(SEGMENTS);
    let length = fs::metadata(&path).map_err(TraceError::io("reading", &path))?.len();
    if length > MAX_LIST {
        let why = format!("{length} bytes, more than the {MAX_LIST} of any real trace");
        return Err(TraceError::Manifest { path, line: 0, why });
    }
    let text = fs::read_to_string(&path).map_err(TraceError::io("reading", &path))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut segments = Vec::new();
    for (number, line) in whole.lines().enumerate() {
        let error = |why: String| TraceError::Manifest { path: path.clone(), line: number + 1, why };
        let segment: Segment = serde_json::from_str(line).map_err(|source| error(source.to_string()))?;
        if segment.rows > MAX_ROWS {
            return Err(error(format!("{} rows, more than the {MAX_ROWS} a segment may have", segment.rows)));
        }
        if segment.kind.is_empty() || !segment.kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return Err(error(format!("`{}` is no kind of record", segment.kind.escape_debug())));
        }
        segments.push(segment);
    }
    Ok(segments)
}
