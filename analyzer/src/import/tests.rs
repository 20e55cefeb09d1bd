//! Real text: tracefs of Linux 6.18 with KVM-PVM, a demand-paging guest of 8 pages; and lines as
//! Intel and AMD print them.

use std::{fmt::Write as _, io::Write as _, os::fd::AsRawFd as _, path::PathBuf};

use proptest::prelude::*;
use trace::{Record, Trace};

use super::{
    import,
    line::{Line, lost, parse},
};

fn imported(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("t.txt"), folder.path().join("t.trace"));
    std::fs::write(&from, text).expect("written");
    import(&from, &to, Vec::new()).expect("imported");
    (folder, to)
}

/// Each fault in a line.
fn faults(text: &str) -> String {
    let (_folder, path) = imported(text);
    let trace = Trace::open(&path).expect("a trace");
    let mut out = String::new();
    for record in trace.records() {
        let Record::Fault(row) = record.expect("whole") else {
            continue;
        };
        writeln!(
            out,
            "{} vm {} vcpu {} {} gva {} error {:#x} gpa {:?} level {:?} made {} {} ns walk {:?} \
             write {:?} entry {:?}",
            row.seq.0,
            row.vm.0,
            row.vcpu.0,
            row.class.name(),
            row.gva,
            row.error_code.0,
            row.gpa.map(|gpa| gpa.0),
            row.level.map(|level| level.0),
            row.created,
            row.total_ns,
            row.walk_ns,
            row.write_ns,
            row.entry_ns,
        )
        .expect("written");
    }
    let meta = trace.meta().imported.clone().expect("imported");
    write!(out, "{} not classified", meta.unclassified).expect("written");
    out
}

#[test]
fn a_line_of_tracefs_and_one_of_perf_say_the_same() {
    let expected = Line {
        process: Some(26391),
        thread: 26652,
        name: "CPU 0/KVM-x",
        time_ns: 75_050_175_975_000,
        event: "kvm_mmu_set_spte",
        arguments: "gfn 119 spte 28aca4a25 (r-xu) level 1 at 5a622a8c8",
    };
    let tail = "gfn 119 spte 28aca4a25 (r-xu) level 1 at 5a622a8c8";
    let lines = [
        format!(
            "  CPU 0/KVM-x-26652   (  26391) [000] ...1. 75050.175975: kvm_mmu_set_spte: {tail}"
        ),
        format!("CPU 0/KVM-x 26391/26652 [000] 75050.175975000: kvmmmu:kvm_mmu_set_spte: {tail}"),
    ];
    for line in &lines {
        assert_eq!(parse(line), Some(expected), "{line}");
    }
    let without = format!(" CPU 0/KVM-x-26652 [001] d..2. 75050.175975: kvm_mmu_set_spte: {tail}");
    let alone = Line {
        process: None,
        ..expected
    };
    assert_eq!(parse(&without), Some(alone));
    assert_eq!(
        (expected.hex("gfn"), expected.number("level")),
        (Some(0x119), Some(1))
    );
    for none in [
        "",
        "# tracer: nop",
        "a-1 [x] 1.5: e: f",
        "a-1 [000] 1: e: f",
        "] [",
    ] {
        assert_eq!(parse(none), None, "{none}");
    }
}

#[test]
fn what_the_kernel_had_no_room_for_is_counted() {
    assert_eq!(lost("CPU:1 [LOST 12 EVENTS]"), Some(12));
    assert_eq!(
        lost("# entries-in-buffer/entries-written: 80/100   #P:2"),
        Some(20)
    );
    assert_eq!(
        lost("# entries-in-buffer/entries-written: 100/100   #P:2"),
        None
    );
    let (_folder, path) = imported(
        "CPU:1 [LOST 12 EVENTS]\n v-1 [000] ..... 1.000001: \
         kvm_mmu_pagetable_walk: addr 1 pferr 2 W\n",
    );
    let trace = Trace::open(&path).expect("a trace");
    assert_eq!(trace.meta().end.as_ref().map(|end| end.records), Some(12));
    assert_eq!(trace.rows("losses"), 1);
    // The trace begins with the first event, not with the clock.
    assert_eq!(trace.span_ns(), Some([1_000_001_000; 2]));
}

/// Lines 4608 to 4652 and the end of a text of 9492: two shadow faults, a prefetched entry, a fault
/// of the guest, and walks of the emulator, which are no faults.
#[test]
fn the_faults_of_a_real_text_are_those_that_were() {
    insta::assert_snapshot!(faults(include_str!("samples/pvm.txt")));
}

/// From a recording of `demand` on Linux 6.18 with KVM-PVM, by perf 6.1, which could not print two of
/// the events: a fault of the guest, then the shadow fault at the same address, with a new table.
#[test]
fn the_faults_of_a_real_text_of_perf_are_those_that_were() {
    insta::assert_snapshot!(faults(include_str!("samples/perf.txt")));
}

#[test]
fn announced_faults_end_with_the_entry() {
    insta::assert_snapshot!(faults(include_str!("samples/made_up.txt")));
}

/// A pipe gives each byte once.
#[test]
fn a_text_is_read_from_a_pipe() {
    let text = include_str!("samples/perf.txt");
    let (read, mut write) = std::io::pipe().expect("a pipe");
    let writing = std::thread::spawn(move || write.write_all(text.as_bytes()));
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("t.trace");
    let from = PathBuf::from(format!("/proc/self/fd/{}", read.as_raw_fd()));
    let of_pipe = import(&from, &to, Vec::new()).expect("imported");
    writing.join().expect("a thread").expect("written");
    let (_folder, of_file) = imported(text);
    let of_file = Trace::open(&of_file).expect("a trace");
    assert_eq!(of_file.meta().imported, Some(of_pipe));
    let of_pipe = Trace::open(&to).expect("a trace");
    let records =
        |trace: &Trace| -> Vec<_> { trace.records().map(|row| row.expect("whole")).collect() };
    assert_eq!(records(&of_pipe), records(&of_file));
    assert!(!records(&of_file).is_empty());
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 1, "the copy has no name");
}

#[test]
fn a_text_without_an_event_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("t.txt"), folder.path().join("t.trace"));
    std::fs::write(&from, "# tracer: nop\nnothing\n").expect("written");
    let error = import(&from, &to, Vec::new()).expect_err("nothing");
    assert!(
        error.to_string().contains("no event of kvmmmu in 2 lines"),
        "{error}"
    );
    assert!(!to.exists());
}

proptest! {
    // Each case writes a trace, and syncs it.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_text_is_imported_or_refused(
        order in proptest::collection::vec((0_usize..24, 0_u32..3, any::<bool>()), 0..200),
    ) {
        let lines: Vec<&str> = include_str!("samples/made_up.txt").lines().collect();
        let mut text = String::new();
        for (line, thread, cut) in order {
            let line = lines.get(line % lines.len()).copied().unwrap_or_default();
            let line = line.replace("-100 ", &format!("-{} ", 100 + thread));
            let line = line.get(..if cut { line.len() / 2 } else { line.len() });
            text += line.unwrap_or_default();
            text.push('\n');
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("t.txt"), folder.path().join("t.trace"));
        std::fs::write(&from, text).expect("written");
        if import(&from, &to, Vec::new()).is_ok() {
            let trace = Trace::open(&to).expect("a trace");
            let rows = trace.records().filter(|record| record.is_ok()).count();
            prop_assert_eq!(rows as u64, trace.listed_rows());
            let numbers = trace.meta().end.as_ref().map_or(0, |end| end.records);
            prop_assert_eq!(numbers, rows as u64);
        }
    }
}
