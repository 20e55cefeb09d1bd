//! For how long keyframes stop a guest.

use trace::{MarkRow, Record, Trace};

use crate::support::{
    folder, record,
    vmm::{Attached, Vmm},
};

/// The marks that end keyframes.
fn keyframes(trace: &std::path::Path) -> Vec<MarkRow> {
    let trace = Trace::open(trace).expect("a trace");
    let marks = trace.records().filter_map(|record| match record {
        Ok(Record::Mark(row)) => row.ends_keyframe().map(|_| row),
        record => record.map(|_| None).expect("a whole trace"),
    });
    marks.collect()
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_keyframe_says_how_long_the_guest_was_stopped() {
    let folder = folder();
    let args = ["linear", "-p", "pages=32768", "--keyframe-every", "0.1"];
    let (trace, _) = record(&folder, &args);
    let marks = keyframes(&trace);
    let [first, between @ .., last] = &marks[..] else {
        panic!("{marks:?}");
    };
    // The guest has not begun, and it has ended.
    assert_eq!((first.stopped_ns, last.stopped_ns), (None, None));
    assert!(!between.is_empty());
    let mut before = first;
    for mark in between {
        let stopped = mark.stopped_ns.expect("a guest that ran");
        let since = mark.time_ns.0 - before.time_ns.0;
        assert!((1..since).contains(&stopped), "{mark:?}");
        before = mark;
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_keyframes_by_themselves_stop_a_hundredth_of_the_time() {
    let folder = folder();
    let trace = folder.path().join("s.trace");
    let mut vmm = Vmm::small(&["--apart", "--pages", "20000", "--chunk", "20000"]);
    let pid = vmm.pid().to_string();
    let args = ["--pid", &pid, "--keyframe-every", "auto", "--for", "8"];
    let mut attached = Attached::start(&trace, &args);
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    assert_eq!(attached.ended()["lost"], 0);
    vmm.kill();
    let marks = keyframes(&trace);
    // After a stop of 70 ms, as a busy machine may make one, no other is due within the run.
    let longest = marks.iter().filter_map(|mark| mark.stopped_ns).max();
    let is_paused = longest.is_some_and(|ns| ns >= 70_000_000);
    assert!(marks.len() > 2 || is_paused, "{marks:?}");
    // The last one is taken whenever the recording ends.
    for pair in marks[..marks.len() - 1].windows(2) {
        let [before, after] = pair else {
            panic!("{pair:?}");
        };
        let [stopped, next] = [before, after].map(|mark| mark.stopped_ns.expect("it ran"));
        let ran = after.time_ns.0 - next - before.time_ns.0;
        assert!(ran >= stopped * 98 && ran >= 900_000_000, "{pair:?}");
    }
}
