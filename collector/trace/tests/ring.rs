//! A trace whose oldest stretches are dropped while it grows.

#![allow(clippy::expect_used, reason = "tests fail by panicking")]

use std::path::Path;

use events::{Seq, TimeNs, VmId};
use trace::{Batch, Begin, End, MarkRow, Meta, Row as _, SCHEMA_VERSION, Trace, TraceWriter};

fn mark(seq: u64) -> MarkRow {
    MarkRow {
        seq: Seq(seq),
        time_ns: TimeNs(seq * 10),
        vm: VmId(0),
        vcpu: None,
        name: String::new(),
        guest_tsc: None,
        keyframe: None,
        pages: None,
        stopped_ns: None,
    }
}

/// Ten records in each of five stretches, one of which comes a stretch late: 19.
fn written(path: &Path) -> TraceWriter {
    let meta = Meta {
        schema: SCHEMA_VERSION,
        ..Meta::default()
    };
    let mut trace = TraceWriter::create(path, &meta).expect("a trace");
    for stretch in 0..5 {
        let mut numbers: Vec<u64> = (stretch * 10..stretch * 10 + 10).collect();
        if stretch == 1 {
            numbers.pop();
        }
        if stretch == 2 {
            numbers.push(19);
        }
        let batch = Batch {
            marks: numbers.into_iter().map(mark).collect(),
            ..Batch::default()
        };
        trace.write(&batch).expect("written");
    }
    trace
}

fn begin(seq: u64) -> Begin {
    Begin {
        seq,
        time_ns: seq * 10,
        keyframe: true,
    }
}

/// The numbers that are read, and the stretches on disk.
fn read(path: &Path) -> (Vec<u64>, Vec<u32>) {
    let trace = Trace::open(path).expect("a trace");
    let records = trace.records();
    let numbers = records.map(|record| record.expect("whole").seq().0);
    let stretches = (1..=5).filter(|number| {
        let file = path
            .join(MarkRow::KIND)
            .join(format!("{number:06}.parquet"));
        file.exists()
    });
    (numbers.collect(), stretches.collect())
}

#[test]
fn what_is_before_the_beginning_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.trace");
    let mut trace = written(&path);
    trace.drop_before(begin(5)).expect("nothing to drop");
    assert_eq!(
        trace.meta_file().kept(),
        None,
        "the first stretch has later numbers too"
    );
    trace.drop_before(begin(15)).expect("dropped");
    assert_eq!(read(&path), ((15..50).collect(), vec![2, 3, 4, 5]));
    trace.drop_before(begin(20)).expect("dropped");
    // Number 19 is still in the third stretch.
    assert_eq!(read(&path), ((20..50).collect(), vec![3, 4, 5]));
    let kept = trace.meta_file().kept().expect("something was dropped");
    assert_eq!((kept.dropped.segments, kept.dropped.rows), (2, 19));
    assert_eq!(
        Trace::open(&path).expect("a trace").span_ns(),
        Some([200, 490])
    );

    // It grows and ends as any other.
    let batch = Batch {
        marks: vec![mark(50)],
        ..Batch::default()
    };
    trace.write(&batch).expect("written");
    let meta = Meta {
        schema: SCHEMA_VERSION,
        complete: true,
        end: Some(End {
            records: 51,
            segments: trace.segments(),
            rows: trace.rows(),
            ..End::default()
        }),
        ..Meta::default()
    };
    trace.meta_file().write(&meta).expect("written");
    let (numbers, _) = read(&path);
    assert_eq!(numbers, (20..51).collect::<Vec<_>>());
    let opened = Trace::open(&path).expect("a trace");
    assert_eq!(opened.meta().begin(), Some(begin(20)));
    let columns = opened.frame::<MarkRow>(Some(&["vm"])).expect("columns");
    assert_eq!((columns.height(), columns.width()), (31, 1));
}

#[test]
fn the_oldest_stretch_goes_wherever_keyframes_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r.trace");
    let mut trace = written(&path);
    let before = trace.bytes();
    let none = trace.drop_oldest(Some(90)).expect("nothing to drop");
    assert!(!none, "the first stretch reaches to 90 ns");
    assert!(trace.drop_oldest(Some(91)).expect("dropped"));
    assert!(trace.bytes() < before);
    assert_eq!(read(&path), ((10..50).collect(), vec![2, 3, 4, 5]));
    let begin = trace.meta_file().kept().and_then(|kept| kept.begin);
    assert!(begin.is_some_and(|begin| begin.seq == 10 && !begin.keyframe));
    let dropped = (0..9).filter(|_| {
        trace
            .drop_oldest(None)
            .expect("dropped, or nothing to drop")
    });
    assert_eq!(dropped.count(), 3);
    assert_eq!(
        read(&path),
        ((40..50).collect(), vec![5]),
        "the newest stays"
    );
}
