//! `collector attach --keep`: the last part of a recording, in a ring of segments.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use trace::{Event, Kept, Trace};

use super::attach::of_process;
use crate::support::{
    analyze, analyzer, collector, expect_code, folder, json, run, stderr,
    vmm::{Attached, Vmm},
};

/// Guests that fault all the time, but not faster than two CPUs can record them.
fn busy(vms: &str) -> Vmm {
    let size = ["--vms", vms, "--vcpus", "2", "--pages", "1024", "--discard"];
    let mut vmm = Vmm::small(&[&size[..], &["--pause-ms", "5"]].concat());
    vmm.go();
    vmm.expect("touched");
    vmm
}

/// Replay is exact from the first keyframe on, and KVM counted the faults of what was kept.
fn exact(trace: &Path) -> Kept {
    let verified = run(analyzer().arg("verify").arg(trace));
    expect_code(&verified, 0);
    for vm in analyze("verify", trace)["vms"].as_array().expect("VMs") {
        let lines = vm["reconciliation"].as_array().expect("counters");
        for name in ["pf_taken", "pf_fixed"] {
            let line = lines.iter().find(|line| line["counter"] == name);
            let line = line.expect("a counter");
            assert_eq!(line["relation"], "equal", "{line}");
            assert!(line["kvm"].as_u64() > Some(1000), "{line}");
        }
    }
    only_what_is_listed(trace);
    kept(trace)
}

fn kept(trace: &Path) -> Kept {
    let meta = Trace::open(trace).expect("a trace").meta().clone();
    meta.kept.expect("a part was kept")
}

/// The segments on disk are those of the list.
fn only_what_is_listed(path: &Path) {
    let trace = Trace::open(path).expect("a trace");
    let listed = trace.segments().iter();
    let listed: BTreeSet<_> = listed
        .map(|of| format!("{}/{:06}.parquet", of.kind, of.segment))
        .collect();
    let mut found = BTreeSet::new();
    for kind in trace::KINDS {
        let Ok(files) = fs::read_dir(path.join(kind.name)) else {
            continue;
        };
        for file in files {
            let name = file.expect("an entry").file_name();
            found.insert(format!("{}/{}", kind.name, name.to_string_lossy()));
        }
    }
    assert_eq!(found, listed);
}

fn seconds(trace: &Path) -> f64 {
    let [from, to] = Trace::open(trace)
        .expect("a trace")
        .span_ns()
        .expect("records");
    (to - from) as f64 / 1e9
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_flight_the_last_seconds_are_exact_and_the_rest_is_gone() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let vmm = busy("2");
    let pid = vmm.pid().to_string();
    let args = ["--pid", &pid, "--keep", "3s", "--for", "12"];
    let outcome = Attached::start(&trace, &args).ended();
    assert_eq!(
        (&outcome["lost"], &outcome["reason"]),
        (&0.into(), &"time".into())
    );
    let kept = exact(&trace);
    let begin = kept.begin.expect("something was dropped");
    assert!(begin.keyframe && begin.seq > 0, "{begin:?}");
    assert!(
        kept.dropped.rows > 1000 && kept.dropped.segments > 3,
        "{kept:?}"
    );
    let seconds = seconds(&trace);
    assert!((3.0..8.0).contains(&seconds), "{seconds} s");

    // Every record since the beginning is there, and none before.
    let opened = Trace::open(&trace).expect("a trace");
    let first = opened.records().next().expect("a record").expect("whole");
    assert_eq!(first.seq().0, begin.seq);
    let summary = analyze("summary", &trace);
    assert_eq!(summary["lost"]["records"], 0, "{}", summary["lost"]);
    let text = run(analyzer().arg("summary").arg(&trace));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("were dropped"), "{text}");
    for command in [
        "table",
        "refaults",
        "pathologies",
        "memory",
        "audit",
        "summary",
    ] {
        expect_code(
            &run(analyzer().arg(command).args(["--vm", "1"]).arg(&trace)),
            0,
        );
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_flight_the_ring_has_no_more_bytes_than_it_may() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let vmm = busy("1");
    let pid = vmm.pid().to_string();
    let args = [
        "--pid",
        &pid,
        "--keep",
        "60s",
        "--keep-mib",
        "1",
        "--for",
        "20",
    ];
    let outcome = Attached::start(&trace, &args).ended();
    assert_eq!(outcome["lost"], 0);
    let kept = exact(&trace);
    assert!(kept.begin.is_some_and(|begin| begin.keyframe), "{kept:?}");
    let bytes = Trace::open(&trace).expect("a trace").bytes();
    assert!(bytes < 3 << 20, "{bytes} bytes of {kept:?}");
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_flight_a_signal_ends_it_with_what_was_before_and_after() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let vmm = busy("1");
    let pid = vmm.pid().to_string();
    let args = [
        "--pid",
        &pid,
        "--keep",
        "2s",
        "--on",
        "signal,live_lock",
        "--after",
        "1.5",
    ];
    let mut attached = Attached::start(&trace, &args);
    attached.until_traced(&[vmm.pid()]);
    thread::sleep(Duration::from_secs(6));
    attached.signal(Signal::USR1);
    let outcome = attached.ended();
    assert_eq!(outcome["reason"], "event");
    let kept = exact(&trace);
    let event = kept.event.expect("the signal");
    assert_eq!((event.on.as_str(), event.vm), ("signal", None));
    let [from, to] = Trace::open(&trace)
        .expect("a trace")
        .span_ns()
        .expect("records");
    let around = [event.time_ns - from, to - event.time_ns].map(|ns| ns as f64 / 1e9);
    assert!(around[0] >= 2.0 && around[1] >= 1.4, "{around:?}");
    assert!(around[0] < 6.0 && around[1] < 4.0, "{around:?}");
}

/// The event that ended the recording.
fn event_of(trace: &Path) -> Event {
    kept(trace).event.expect("an event")
}

/// The same, which its record shows.
fn event(trace: &Path) -> Event {
    expect_code(&run(analyzer().arg("verify").arg(trace)), 0);
    let event = event_of(trace);
    let seq = event.seq.expect("a record").to_string();
    let vm = event.vm.expect("a VM").to_string();
    let mut explain = analyzer();
    explain.arg("explain").arg(trace);
    let explained = run(explain.args(["--vm", &vm, "--seq", &seq]));
    expect_code(&explained, 0);
    event
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_flight_a_fault_again_and_again_ends_it() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let mut vmm = Vmm::small(&["--pages", "64", "--refuse", "40"]);
    let pid = vmm.pid().to_string();
    let args = [
        "--pid",
        &pid,
        "--keep",
        "10s",
        "--on",
        "live_lock",
        "--after",
        "0.5",
    ];
    let mut attached = Attached::start(&trace, &args);
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    assert_eq!(attached.ended()["reason"], "event");
    let event = event(&trace);
    assert_eq!(
        (event.on.as_str(), event.vm),
        ("live_lock", Some(0)),
        "{event:?}"
    );
}

/// The end of a VM, which zaps all its pages, is none.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_flight_a_zap_storm_of_any_vm_ends_it() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let mut ends = Vmm::small(&["--pages", "16384"]);
    let args = [
        "--all",
        "--keep",
        "30s",
        "--on",
        "zap_storm",
        "--after",
        "0.5",
    ];
    let mut attached = Attached::start(&trace, &args);
    attached.until_traced(&[ends.pid()]);
    ends.go();
    ends.expect("touched");
    ends.kill();
    thread::sleep(Duration::from_secs(4));
    assert!(!attached.is_over(), "{:?}", kept(&trace).event);
    // It recycles its shadow pages, and may end before it is found.
    for time in 0..20 {
        if attached.is_over() {
            break;
        }
        let trace = folder.path().join(format!("{time}.trace"));
        let params = ["-p", "tables=2000", "-p", "mmu_pages=128", "-o"];
        let mut command = collector();
        command.args(["run", "recycle"]).args(params).arg(trace);
        expect_code(&run(&mut command), 0);
    }
    let outcome = attached.ended();
    assert_eq!(outcome["reason"], "event");
    let event = event(&trace);
    assert_eq!(event.on, "zap_storm");
    // The analyzer finds it by the same name, and not what came of the end of the other VM.
    let pathologies = analyze("pathologies", &trace);
    let storms = |vm: u64| {
        let vms = pathologies["vms"].as_array().expect("VMs");
        let of = vms.iter().find(|of| of["vm"] == vm).expect("the VM");
        let found = of["pathologies"].as_array().expect("findings");
        found
            .iter()
            .filter(|found| found["pathology"] == "zap_storm")
            .count()
    };
    let stormed = event.vm.expect("a VM").into();
    assert_eq!(storms(stormed), 1, "{pathologies}");
    let of_ends = of_process(&outcome, ends.pid());
    let ended = of_ends[0]["vm"].as_u64().expect("a number");
    assert_ne!(stormed, ended);
    let summary = analyze("summary", &trace);
    assert_eq!(storms(ended), 0, "{pathologies} {summary}");
}

/// A memslot that moves has all shadow pages zapped; then the VM does nothing for ten minutes. No
/// record shows that it runs on: the next look does.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_flight_a_zap_storm_of_a_vm_that_idles_ends_it() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let size = ["--pages", "16384", "--chunk", "16384"];
    let mut vmm = Vmm::small(&[&size[..], &["--move-slot", "--pause-ms", "600000"]].concat());
    let pid = vmm.pid().to_string();
    let args = ["--pid", &pid, "--keep", "30s", "--on", "zap_storm"];
    let mut attached = Attached::start(&trace, &[&args[..], &["--after", "0.5"]].concat());
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    vmm.expect("touched");
    let begin = Instant::now();
    while !attached.is_over() {
        assert!(begin.elapsed() < Duration::from_secs(30), "it goes on");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(attached.ended()["reason"], "event");
    let event = event(&trace);
    assert_eq!((event.on.as_str(), event.vm), ("zap_storm", Some(0)));
    // The analyzer finds it by the same name, though nothing comes after it there, either.
    let found = analyze("pathologies", &trace)["vms"][0]["pathologies"].clone();
    assert_eq!(found[0]["pathology"], "zap_storm", "{found}");
}

/// A watchdog does not know when the probes are loaded.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_flight_a_signal_while_the_probes_are_loaded_is_an_event() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let vmm = busy("1");
    let pid = vmm.pid().to_string();
    let args = ["--pid", &pid, "--keep", "2s", "--on", "signal"];
    let mut attached = Attached::start(&trace, &[&args[..], &["--after", "0.5"]].concat());
    attached.until_it_holds("bpf");
    assert!(!trace.exists(), "nothing is recorded yet");
    attached.signal(Signal::USR1);
    assert_eq!(attached.ended()["reason"], "event");
    assert_eq!(event_of(&trace).on, "signal");
}

/// More comes after the event than the ring holds: it ends sooner, with the event and what was
/// before it.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_flight_what_comes_after_the_event_does_not_push_it_out() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let vmm = busy("1");
    let pid = vmm.pid().to_string();
    let args = ["--pid", &pid, "--keep", "60s", "--keep-mib", "1"];
    let on = ["--on", "signal", "--after", "100"];
    let mut attached = Attached::start(&trace, &[&args[..], &on].concat());
    attached.until_traced(&[vmm.pid()]);
    let is_full = || kept(&trace).begin.is_some();
    let begin = Instant::now();
    while !is_full() {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "the ring is full"
        );
        thread::sleep(Duration::from_millis(100));
    }
    attached.signal(Signal::USR1);
    let output = attached.output();
    let outcome = json(&output);
    assert_eq!(
        (&outcome["reason"], &outcome["lost"]),
        (&"event".into(), &0.into())
    );
    let said = stderr(&output);
    assert!(said.contains("not for 100.0 s"), "{said}");
    let kept = exact(&trace);
    let (event, begin) = (event_of(&trace), kept.begin.expect("it was full"));
    assert!(begin.keyframe && begin.time_ns < event.time_ns, "{kept:?}");
    assert!(kept.after_ns < 100_000_000_000, "{kept:?}");
    let bytes = Trace::open(&trace).expect("a trace").bytes();
    assert!(bytes < 3 << 20, "{bytes} bytes of {kept:?}");
    let text = run(analyzer().arg("summary").arg(&trace));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("the limit of bytes left"), "{text}");
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_flight_a_killed_recorder_leaves_the_last_seconds() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let vmm = busy("1");
    let pid = vmm.pid().to_string();
    let mut attached = Attached::start(&trace, &["--pid", &pid, "--keep", "1s"]);
    attached.until_traced(&[vmm.pid()]);
    thread::sleep(Duration::from_secs(6));
    attached.signal(Signal::KILL);
    attached.output();
    let summary = analyze("summary", &trace);
    assert_eq!(
        (&summary["complete"], &summary["lost"]["records"]),
        (&false.into(), &0.into())
    );
    assert!(kept(&trace).begin.is_some());
    // It was cut, so that it is not exact.
    let verified = run(analyzer().arg("verify").arg(&trace).arg("--json"));
    expect_code(&verified, 1);
    let verified: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    let drift = &verified["vms"][0]["drift"];
    assert!(drift["keyframes"].as_u64() >= Some(1), "{drift}");
    assert_eq!(drift["entries"], 0, "{drift}");
}
