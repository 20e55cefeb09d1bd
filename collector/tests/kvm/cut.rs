//! A recording that ends badly, and a trace that was damaged afterwards.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use trace::Trace;

use crate::support::{
    analyze, analyzer, collector, expect_code, folder, record, refused, run, vmm::Vmm,
};

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_killed_recording_is_readable_and_says_that_it_was_cut() {
    for millis in [1500, 2500] {
        let folder = folder();
        let trace = folder.path().join("k.trace");
        let mut child = collector()
            .args(["run", "linear", "-p", "pages=524288", "-o"])
            .arg(&trace)
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        until_a_segment(&trace, &mut child);
        thread::sleep(Duration::from_millis(millis));
        child.kill().expect("kill -9");
        child.wait().expect("a child");

        let summary = analyze("summary", &trace);
        assert_eq!(summary["complete"], false);
        let text = run(analyzer().arg("summary").arg(&trace));
        let text = String::from_utf8_lossy(&text.stdout).to_lowercase();
        assert!(text.contains("cut"), "{text}");
        assert_eq!(
            run(analyzer().arg("verify").arg(&trace)).status.code(),
            Some(1)
        );
    }
}

/// The outcome is printed to a pipe that is full, and nobody reads: the trace is whole before, and
/// Ctrl-C ends what is left.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_ctrl_c_ends_a_collector_whose_outcome_nobody_reads() {
    let vmm = Vmm::small(&["--pages", "64"]);
    let pid = vmm.pid().to_string();
    for args in [
        &["run", "linear", "-p", "pages=64"][..],
        &["attach", "--pid", &pid, "--for", "0.5"][..],
    ] {
        for signal in [Signal::INT, Signal::TERM] {
            let folder = folder();
            let trace = folder.path().join("n.trace");
            let (_reader, mut writer) = std::io::pipe().expect("a pipe");
            // As much as it holds.
            writer.write_all(&[0; 1 << 16]).expect("room");
            let mut child = collector()
                .args(args)
                .arg("-o")
                .arg(&trace)
                .stdout(writer)
                .stderr(Stdio::null())
                .spawn()
                .expect("the program starts");
            let begin = Instant::now();
            let is_whole = || Trace::open(&trace).is_ok_and(|trace| !trace.was_cut());
            while !is_whole() {
                assert!(begin.elapsed() < Duration::from_secs(60), "no trace");
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(Duration::from_millis(300));
            assert!(child.try_wait().expect("a child").is_none(), "it waits");
            kill_process(Pid::from_child(&child), signal).expect("a signal");
            let begin = Instant::now();
            while child.try_wait().expect("a child").is_none() {
                if begin.elapsed() > Duration::from_secs(5) {
                    child.kill().expect("it lives");
                    panic!("{signal:?} does not end {args:?}");
                }
                thread::sleep(Duration::from_millis(20));
            }
            expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
        }
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_ctrl_c_ends_the_guest_and_completes_the_trace() {
    let folder = folder();
    let trace = folder.path().join("i.trace");
    let mut child = collector()
        .args(["run", "linear", "-p", "pages=524288", "-o"])
        .arg(&trace)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    until_a_segment(&trace, &mut child);
    kill_process(Pid::from_child(&child), Signal::INT).expect("a signal");
    let output = child.wait_with_output().expect("a child");
    expect_code(&output, 1);
    let summary = analyze("summary", &trace);
    assert_eq!(summary["complete"], true);
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_damage_is_found_and_named() {
    let folder = folder();
    let (trace, _) = record(&folder, &["linear", "-p", "pages=513"]);
    let segment = trace.join("faults/000001.parquet");
    let whole = fs::read(&segment).expect("a segment");

    // One flipped bit, anywhere.
    for place in [
        0,
        4,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 9,
        whole.len() - 1,
    ] {
        let mut flipped = whole.clone();
        flipped[place] ^= 0x10;
        fs::write(&segment, &flipped).expect("writable");
        refused(&trace, &["000001.parquet", "checksum"]);
    }
    fs::write(&segment, &whole[..whole.len() / 2]).expect("writable");
    refused(&trace, &["000001.parquet", "bytes"]);
    fs::remove_file(&segment).expect("removable");
    refused(&trace, &["000001.parquet"]);
    fs::write(&segment, &whole).expect("writable");
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);

    let meta = trace.join("meta.json");
    let text = fs::read_to_string(&meta).expect("metadata");
    fs::write(&meta, &text[..text.len() / 2]).expect("writable");
    refused(&trace, &["meta.json"]);
    fs::write(&meta, text.replace("\"schema\": 1", "\"schema\": 99")).expect("writable");
    refused(&trace, &["99", "newer"]);
}

/// Waits until the trace has a segment: before, Ctrl-C ends a program that records nothing yet, and
/// `kill -9` has nothing to lose.
fn until_a_segment(trace: &Path, child: &mut Child) {
    while fs::metadata(trace.join("segments.jsonl")).map_or(0, |file| file.len()) == 0 {
        thread::sleep(Duration::from_millis(20));
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none(), "ended early: {ended:?}");
    }
}
