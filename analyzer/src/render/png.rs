//! Pixels as a PNG file (ISO/IEC 15948).
//!
//! The crate `png` would do it, but changes features of `flate2` that polars shares.

use std::io::{self, Write as _};

use flate2::{Compression, write::ZlibEncoder};

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Eight bits a sample, red green blue; the only compression, filter and interlacing there are.
const FORMAT: [u8; 5] = [8, 2, 0, 0, 0];
/// Before each row: it is not filtered.
const NO_FILTER: [u8; 1] = [0];

/// Rows of red, green, blue, from the top.
pub(super) fn encode([width, height]: [u32; 2], pixels: &[u8]) -> io::Result<Vec<u8>> {
    let row = usize::try_from(width)
        .unwrap_or(usize::MAX)
        .saturating_mul(3);
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.chunks_exact(row.max(1)) {
        rows.write_all(&NO_FILTER)?;
        rows.write_all(row)?;
    }
    let rows = rows.finish()?;
    let [width, height] = [width, height].map(u32::to_be_bytes);
    let mut file = SIGNATURE.to_vec();
    chunk(
        &mut file,
        *b"IHDR",
        &[&width[..], &height, &FORMAT].concat(),
    )?;
    chunk(&mut file, *b"IDAT", &rows)?;
    chunk(&mut file, *b"IEND", &[])?;
    Ok(file)
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    let mut sum = crc32fast::Hasher::new();
    sum.update(&kind);
    sum.update(data);
    file.extend(length.to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(sum.finalize().to_be_bytes());
    Ok(())
}
