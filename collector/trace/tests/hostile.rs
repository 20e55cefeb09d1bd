//! A trace from elsewhere: any bytes give an error or a result.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and use small numbers"
)]

use std::{fs, os::unix::fs::symlink, path::Path};

use events::{Cause, Gfn, Hpa, Level, Seq, Spte, TimeNs, VcpuId, VmId};
use proptest::prelude::*;
use tempfile::TempDir;
use trace::{Batch, End, EntryRow, MarkRow, Meta, Record, SCHEMA_VERSION, Trace, TraceWriter};

fn entry(seq: u64) -> EntryRow {
    EntryRow {
        seq: Seq(seq),
        time_ns: TimeNs(1000 + seq),
        vm: VmId(0),
        vcpu: Some(VcpuId(0)),
        cause: Cause::Link,
        sptep: Hpa(0x1000 + 8 * seq),
        spte: Spte(0x2827),
        old: seq.is_multiple_of(3).then_some(Spte(seq)),
        level: Level(2),
        gfn: seq.is_multiple_of(2).then_some(Gfn(seq)),
    }
}

fn mark(seq: u64) -> MarkRow {
    MarkRow {
        seq: Seq(seq),
        time_ns: TimeNs(1000 + seq),
        vm: VmId(0),
        vcpu: None,
        name: "touch".to_owned(),
        guest_tsc: Some(seq),
        keyframe: None,
        pages: None,
        stopped_ns: None,
    }
}

/// Three stretches of ten entries and a mark; what of it the recorder finished is the caller's.
fn write(folder: &TempDir) -> (TraceWriter, Meta) {
    let mut meta = Meta {
        schema: SCHEMA_VERSION,
        ..Meta::default()
    };
    let mut writer = TraceWriter::create(&folder.path().join("x.trace"), &meta).expect("a trace");
    for stretch in 0..3 {
        let first = 11 * stretch;
        let batch = Batch {
            entries: (first..first + 10).map(entry).collect(),
            marks: vec![mark(first + 10)],
            ..Batch::default()
        };
        writer.write(&batch).expect("written");
    }
    meta.complete = true;
    meta.end = Some(End {
        segments: writer.segments(),
        rows: writer.rows(),
        ..End::default()
    });
    (writer, meta)
}

fn complete() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (writer, meta) = write(&folder);
    writer.meta_file().write(&meta).expect("metadata");
    folder
}

fn trace(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("x.trace")
}

/// Every record, or the first error.
fn read(path: &Path) -> Result<Vec<Record>, String> {
    let trace = Trace::open(path).map_err(|error| error.to_string())?;
    trace
        .records()
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

#[test]
fn records_come_back_in_one_order() {
    let records = read(&trace(&complete())).expect("readable");
    assert_eq!(records.len(), 33);
    for (seq, record) in (0..).zip(&records) {
        assert_eq!(record.seq(), Seq(seq));
    }
    assert_eq!(records[3], Record::Entry(entry(3)));
    assert_eq!(records[10], Record::Mark(mark(10)));
}

#[test]
fn a_trace_without_its_end_was_cut_and_is_readable() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(write(&folder));
    // Cut after the line and before the file.
    fs::remove_file(trace(&folder).join("marks/000003.parquet")).expect("there");
    let opened = Trace::open(&trace(&folder)).expect("readable");
    assert!(opened.was_cut());
    assert_eq!(opened.missing().len(), 1);
    assert_eq!(opened.records().filter(Result::is_ok).count(), 32);
}

#[test]
fn a_line_cut_in_the_middle_does_not_count() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(write(&folder));
    let list = trace(&folder).join("segments.jsonl");
    let text = fs::read_to_string(&list).expect("the list");
    fs::write(&list, &text[..text.len() - 7]).expect("writable");
    assert_eq!(read(&trace(&folder)).expect("readable").len(), 32);
}

#[test]
fn a_complete_trace_misses_no_line_and_has_none_twice() {
    let folder = complete();
    let list = trace(&folder).join("segments.jsonl");
    let text = fs::read_to_string(&list).expect("the list");
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&list, format!("{}\n", lines[1..].join("\n"))).expect("writable");
    assert!(
        read(&trace(&folder))
            .expect_err("a line is missing")
            .contains("written with 6 segments")
    );
    fs::write(&list, format!("{text}{}\n", lines[0])).expect("writable");
    assert!(
        read(&trace(&folder))
            .expect_err("a line is there twice")
            .contains("listed twice")
    );
}

#[test]
fn links_and_devices_are_not_followed() {
    let folder = complete();
    for file in ["meta.json", "segments.jsonl", "entries/000001.parquet"] {
        let place = trace(&folder).join(file);
        let bytes = fs::read(&place).expect("there");
        fs::remove_file(&place).expect("there");
        symlink("/dev/zero", &place).expect("a link");
        read(&trace(&folder)).expect_err(file);
        fs::remove_file(&place).expect("there");
        fs::write(&place, bytes).expect("writable");
    }
    read(&trace(&folder)).expect("whole again");
}

#[test]
fn a_kind_cannot_lead_out_of_the_folder() {
    let folder = complete();
    let list = trace(&folder).join("segments.jsonl");
    let text = fs::read_to_string(&list).expect("the list");
    fs::write(&list, text.replacen("\"entries\"", "\"../entries\"", 1)).expect("writable");
    assert!(
        read(&trace(&folder))
            .expect_err("refused")
            .contains("no kind")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_changed_byte_is_found(place in any::<prop::sample::Index>(), change in 1u8..) {
        let folder = complete();
        let file = trace(&folder).join("entries/000002.parquet");
        let mut bytes = fs::read(&file).expect("a segment");
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        fs::write(&file, bytes).expect("writable");
        let error = read(&trace(&folder)).expect_err("the checksum differs");
        prop_assert!(error.contains("000002.parquet"), "{error}");
        prop_assert!(error.contains("10 rows of its kind before"), "{error}");
    }

    /// Bytes that carry the right checksum and length, as only a forger would make them.
    #[test]
    fn forged_segments_give_an_error_or_rows(
        place in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let folder = complete();
        let file = trace(&folder).join("entries/000001.parquet");
        let mut bytes = fs::read(&file).expect("a segment");
        let place = place.index(bytes.len());
        let end = (place + noise.len()).min(bytes.len());
        bytes[place..end].copy_from_slice(&noise[..end - place]);
        bytes.truncate(bytes.len() - cut.index(8));
        let list = trace(&folder).join("segments.jsonl");
        let text = fs::read_to_string(&list).expect("the list");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut line: trace::Segment = serde_json::from_str(&lines[0]).expect("a line");
        line.bytes = bytes.len() as u64;
        line.crc32 = crc32fast::hash(&bytes);
        lines[0] = serde_json::to_string(&line).expect("a line");
        fs::write(&file, bytes).expect("writable");
        fs::write(&list, format!("{}\n", lines.join("\n"))).expect("writable");
        let _ = read(&trace(&folder));
    }

    #[test]
    fn any_metadata_and_any_list_give_an_error_or_a_trace(
        meta in proptest::collection::vec(any::<u8>(), 0..200),
        list in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let folder = complete();
        fs::write(trace(&folder).join("segments.jsonl"), list).expect("writable");
        let _ = read(&trace(&folder));
        fs::write(trace(&folder).join("meta.json"), meta).expect("writable");
        let _ = read(&trace(&folder));
    }
}
