//! Rows to the bytes of a segment: Parquet, each column in the encoding that keeps it smallest.
//!
//! Tried are a dictionary (with plain values where one does not pay) and DELTA_BINARY_PACKED: what
//! DuckDB, Spark, pyarrow and polars all read. Sequence numbers, times and addresses that follow one
//! another shrink to nearly nothing as deltas; at random, deltas are wider than the values.

use polars::prelude::*;
use polars_parquet::{
    parquet::{
        CowBuffer,
        compression::Compression,
        page::{CompressedDataPage, CompressedDictPage},
    },
    write::{
        CompressedPage, CompressionOptions, DynIter, DynStreamingIterator, Encoding, FileWriter,
        Page, ParquetType, StatisticsOptions, Version, WriteOptions, array_to_columns,
        fallible_streaming_iterator::convert, get_dtype_encoding,
    },
};
use zstd::bulk::Compressor;

use crate::Row;

/// Rows of a row group: what a reader of a few columns has to hold of each.
const ROW_GROUP: i64 = 1 << 18;
/// Rows on which the encodings of a column are tried.
const SAMPLE: usize = 2048;
/// Bytes of a sample's dictionary and indices below which nothing else is tried.
const SMALL: usize = SAMPLE / 16;

/// No statistics: readers choose segments by their list, and the file is smaller.
const OPTIONS: WriteOptions = WriteOptions {
    statistics: StatisticsOptions {
        min_value: false,
        max_value: false,
        distinct_count: false,
        null_count: false,
        binary_statistics_truncate_length: None,
    },
    version: Version::V1,
    compression: CompressionOptions::Zstd(None),
    data_page_size: None,
};

/// The segment of `rows`.
pub(crate) fn encode<R: Row>(rows: &[R]) -> PolarsResult<Vec<u8>> {
    let mut rest = R::to_frame(rows)?;
    let schema = rest.schema().to_arrow(CompatLevel::newest());
    let mut bytes = Vec::new();
    let mut file = FileWriter::try_new(&mut bytes, schema, OPTIONS)?;
    let fields = file.parquet_schema().fields().to_vec();
    // One for all pages: to make one takes longer than to compress a small page.
    let mut zstd = Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL)?;
    while rest.height() > 0 {
        let group;
        (group, rest) = rest.split_at(ROW_GROUP);
        for batch in group.iter_chunks(CompatLevel::newest(), false) {
            let columns = batch.arrays().iter().zip(&fields);
            let columns = columns.map(|(array, field)| column(array, field, &mut zstd));
            let columns = columns.collect::<PolarsResult<Vec<_>>>()?;
            let columns = columns.iter().map(|pages| {
                let pages = convert(pages.iter().map(PolarsResult::Ok));
                Ok(DynStreamingIterator::new(pages))
            });
            file.write(batch.len() as u64, DynIter::new(columns))?;
        }
    }
    // Without polars' own copy of the schema, which takes more than a small segment's rows: the
    // types are those of Parquet.
    file.end(Some(Vec::new()))?;
    Ok(bytes)
}

/// The pages of a column in the encoding in which a sample of it is smallest.
fn column(
    array: &ArrayRef,
    field: &ParquetType,
    zstd: &mut Compressor<'_>,
) -> PolarsResult<Vec<CompressedPage>> {
    let dictionary = get_dtype_encoding(array.dtype());
    let delta = [Encoding::DeltaBinaryPacked];
    let length = array.len().min(SAMPLE);
    let sample = array.sliced((array.len() - length) / 2, length);
    let (_, small) = pages(&sample, field, &dictionary, zstd)?;
    let by_delta = small > SMALL
        && array.dtype().is_numeric()
        && pages(&sample, field, &delta, zstd)?.1 < small;
    let encoding = if by_delta { &delta } else { &*dictionary };
    Ok(pages(array, field, encoding, zstd)?.0)
}

/// A column in this encoding, compressed, and how many bytes that are.
fn pages(
    array: &ArrayRef,
    field: &ParquetType,
    encoding: &[Encoding],
    zstd: &mut Compressor<'_>,
) -> PolarsResult<(Vec<CompressedPage>, usize)> {
    let mut pages = Vec::new();
    let mut size = 0;
    let columns = array_to_columns(array, field.clone(), OPTIONS, encoding)?;
    for page in columns.into_iter().flatten() {
        let page = page?;
        let bytes = match &page {
            Page::Data(page) => page.buffer(),
            Page::Dict(page) => &page.buffer,
        };
        let bytes = zstd.compress(bytes)?;
        size += bytes.len();
        pages.push(compressed(page, bytes));
    }
    Ok((pages, size))
}

/// A page with its bytes as they were compressed.
fn compressed(page: Page, bytes: Vec<u8>) -> CompressedPage {
    let bytes = CowBuffer::Owned(bytes);
    match page {
        Page::Data(page) => {
            let rows = page.num_rows.unwrap_or_else(|| page.num_values());
            CompressedPage::Data(CompressedDataPage::new(
                page.header().clone(),
                bytes,
                Compression::Zstd,
                page.buffer().len(),
                page.descriptor,
                rows,
            ))
        }
        Page::Dict(page) => CompressedPage::Dict(CompressedDictPage::new(
            bytes,
            Compression::Zstd,
            page.buffer.len(),
            page.num_values,
            page.is_sorted,
        )),
    }
}

#[cfg(test)]
mod tests {
    use events::{Cause, Gfn, Hpa, Level, Seq, Spte, TimeNs, VcpuId, VmId};
    use proptest::prelude::*;

    use crate::{Batch, EntryRow, Meta, SCHEMA_VERSION, Trace, TraceWriter};

    fn entry(seq: u64, sptep: u64, old: Option<u64>) -> EntryRow {
        EntryRow {
            seq: Seq(seq),
            time_ns: TimeNs(sptep.wrapping_mul(3)),
            vm: VmId(0),
            vcpu: Some(VcpuId(0)),
            cause: Cause::Link,
            sptep: Hpa(sptep),
            spte: Spte(!sptep),
            old: old.map(Spte),
            level: Level(2),
            gfn: old.map(Gfn),
        }
    }

    /// The rows as they are read again, and the bytes of their segment.
    fn written(rows: &[EntryRow]) -> (Vec<EntryRow>, u64) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.trace");
        let meta = Meta {
            schema: SCHEMA_VERSION,
            ..Meta::default()
        };
        let mut writer = TraceWriter::create(&path, &meta).expect("a trace");
        let batch = Batch {
            entries: rows.to_vec(),
            ..Batch::default()
        };
        writer.write(&batch).expect("written");
        let trace = Trace::open(&path).expect("a trace");
        let read = trace.segment_rows(&trace.segments()[0]).expect("read");
        (read, writer.bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read(
            first in any::<u64>(),
            step in prop_oneof![0u64..10, Just(4096), any::<u64>()],
            jumps in proptest::collection::vec((1usize..5000, any::<u64>()), 0..4),
            nulls in 0u64..4,
            length in 1usize..5000,
        ) {
            let mut sptep = first;
            let rows: Vec<_> = (0u64..)
                .take(length)
                .map(|seq| {
                    let jump = jumps.iter().find(|(every, _)| seq % (*every as u64) == 0);
                    sptep = sptep.wrapping_add(jump.map_or(step, |(_, far)| *far));
                    let old = (nulls < 3 && seq % 3 >= nulls).then_some(sptep.rotate_left(7));
                    entry(seq.wrapping_add(first), sptep, old)
                })
                .collect();
            prop_assert_eq!(written(&rows).0, rows);
        }
    }

    #[test]
    fn what_follows_one_another_takes_next_to_nothing() {
        let rows: Vec<_> = (0..20_000)
            .map(|seq| entry(seq, 8 * seq, Some(4096 * seq)))
            .collect();
        let (read, bytes) = written(&rows);
        assert_eq!(read, rows);
        assert!(bytes < 20_000 / 4, "{bytes} bytes");
    }

    #[test]
    fn a_segment_of_several_row_groups_is_whole() {
        let rows: Vec<_> = (0..600_000).map(|seq| entry(seq, 8 * seq, None)).collect();
        assert_eq!(written(&rows).0, rows);
    }
}
