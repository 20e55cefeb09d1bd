//! Real guests on the real shadow MMU: theory, trace, KVM's counters and tables agree.

use events::Class;
use trace::{Record, Trace};

use crate::support::{analyze, analyzer, collector, expect_code, folder, record, run, stderr};

/// Guest, shadow and retried faults in the work range that theory gives.
fn theory(workload: &str, pages: u64, write: bool) -> (u64, u64, u64) {
    let guest = if workload == "demand" { pages } else { 0 };
    // A page first read is mapped read-only (its guest entry is not dirty, the host's frame is
    // the page of zeroes): the store faults once for the host's new frame, which invalidates the
    // entry and is retried, and once more to map it.
    if write {
        (guest, pages, 0)
    } else {
        (guest, 2 * pages, pages)
    }
}

fn check(workload: &str, pages: u64, pattern: &str, write: bool) {
    let folder = folder();
    let (pages_param, pattern_param) = (format!("pages={pages}"), format!("pattern={pattern}"));
    let write_param = format!("write={write}");
    let args = [
        workload,
        "-p",
        &pages_param,
        "-p",
        &pattern_param,
        "-p",
        &write_param,
    ];
    let (trace, outcome) = record(&folder, &args);
    assert_eq!(outcome["pages"], pages);
    assert_eq!(outcome["recorded"]["lost"], 0, "{args:?}");

    let summary = analyze("summary", &trace);
    let classes = &summary["vms"][0]["classes"];
    let count = |class: &str| classes[class]["in_range"].as_u64().unwrap_or(0);
    assert_eq!(
        (count("guest"), count("shadow"), count("retried")),
        theory(workload, pages, write),
        "{args:?}"
    );

    let verified = run(analyzer().arg("verify").arg(&trace));
    expect_code(&verified, 0);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_linear_is_exact_at_every_size_and_pattern() {
    for pages in [1, 511, 512, 513, 4096] {
        for pattern in ["sequential", "stride", "random"] {
            check("linear", pages, pattern, true);
        }
    }
    check("linear", 513, "random", false);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_demand_is_exact_at_every_size_and_pattern() {
    for pages in [1, 511, 512, 513, 4096] {
        for pattern in ["sequential", "stride", "random"] {
            check("demand", pages, pattern, true);
        }
    }
    check("demand", 513, "stride", false);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_large_ranges_are_exact() {
    for pattern in ["sequential", "stride", "random"] {
        check("linear", 65536, pattern, true);
        check("demand", 65536, pattern, true);
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_keyframes_in_mid_run_are_exact() {
    let folder = folder();
    let (trace, _) = record(
        &folder,
        &["linear", "-p", "pages=65536", "--keyframe-every", "0.1"],
    );
    let verified = analyze("verify", &trace);
    let keyframes = verified["vms"][0]["drift"]["keyframes"]
        .as_u64()
        .expect("a number");
    assert!(
        keyframes >= 4,
        "{keyframes} keyframes in a run of about two seconds"
    );
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_each_mark_can_have_a_keyframe() {
    let folder = folder();
    let args = ["linear", "-p", "pages=64", "--keyframe-marks"];
    let (trace, _) = record(&folder, &args);
    let verified = analyze("verify", &trace);
    // Beside start, map, touch, check and done: one at the end. The first has nothing to compare.
    assert_eq!(verified["vms"][0]["drift"]["keyframes"], 6);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_entries_that_the_host_takes_back_are_not_kept() {
    // With write=false each store makes the host replace its page of zeroes. That clears the
    // entry without a tracepoint; many keyframes are taken in between.
    for workload in ["linear", "demand"] {
        let folder = folder();
        let args = [
            workload,
            "-p",
            "pages=3000",
            "-p",
            "write=false",
            "--keyframe-every",
            "0.005",
        ];
        let (trace, _) = record(&folder, &args);
        let drift = analyze("verify", &trace)["vms"][0]["drift"].clone();
        assert!(drift["keyframes"].as_u64() > Some(5), "{drift}");
        assert_eq!(
            (&drift["entries"], &drift["pages"]),
            (&0.into(), &0.into()),
            "{drift}"
        );
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_guest_that_misbehaves_leaves_a_readable_trace() {
    // What the guest does, and what the message must name.
    let cases = [
        ("triple", "rip"),
        ("outside", "rip"),
        ("exception", "rip"),
        ("panic", "panic"),
        ("halt", "rip"),
        ("wrong-value", "page"),
    ];
    for (kind, word) in cases {
        let folder = folder();
        let trace = folder.path().join("c.trace");
        let output = run(collector()
            .args(["run", "crash", "-p", &format!("kind={kind}"), "-o"])
            .arg(&trace));
        expect_code(&output, 1);
        assert!(
            stderr(&output).to_lowercase().contains(word),
            "{kind}: {}",
            stderr(&output)
        );
        let summary = analyze("summary", &trace);
        assert_eq!(
            summary["complete"], true,
            "{kind}: the recorder itself ended well"
        );
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_guest_that_loops_is_stopped_in_time() {
    for kind in ["loop", "kernel-loop"] {
        let folder = folder();
        let trace = folder.path().join("c.trace");
        let begin = std::time::Instant::now();
        let mut command = collector();
        command
            .args([
                "run",
                "crash",
                "-p",
                &format!("kind={kind}"),
                "--timeout",
                "0.5",
                "-o",
            ])
            .arg(&trace);
        let output = run(&mut command);
        expect_code(&output, 1);
        assert!(begin.elapsed().as_secs() < 20);
        assert!(
            stderr(&output).contains("0.5") || stderr(&output).contains("500ms"),
            "{}",
            stderr(&output)
        );
        assert!(trace.join("meta.json").exists());
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_an_access_without_a_memslot_is_mmio() {
    let folder = folder();
    let trace = folder.path().join("m.trace");
    let output = run(collector()
        .args(["run", "crash", "-p", "kind=outside", "-o"])
        .arg(&trace));
    expect_code(&output, 1);
    // Where MMIO is not cached in SPTEs, KVM emulates before it asks for one.
    let classes = analyze("summary", &trace)["vms"][0]["classes"].clone();
    assert_eq!(classes["mmio"]["count"], 1, "{classes}");
    assert!(classes.get("write_protected").is_none(), "{classes}");
}

/// KVM does not remember a page as MMIO while memslots change (`vcpu_cache_mmio_info`): the store
/// has no entry to refuse it, so it is none to a table. This guest makes its tables before.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_store_to_a_deleted_memslot_is_mmio() {
    let folder = folder();
    let (trace, outcome) = record(&folder, &["memslot", "-p", "passes=48"]);
    assert_eq!(outcome["recorded"]["lost"], 0);
    let (mut mmio, mut to_tables) = (0, 0);
    for record in Trace::open(&trace).expect("a trace").records() {
        let Record::Fault(fault) = record.expect("a whole trace") else {
            continue;
        };
        mmio += u64::from(fault.class == Class::Mmio);
        if fault.class == Class::WriteProtected {
            assert!(fault.error_code.is_present(), "{fault:?}");
            to_tables += 1;
        }
    }
    assert!(mmio > 100, "{mmio}");
    assert_eq!(to_tables, 0);
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_in_a_pid_namespace_the_same_is_recorded() {
    let folder = folder();
    let trace = folder.path().join("n.trace");
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(env!("CARGO_BIN_EXE_collector"))
        .args(["run", "demand", "-p", "pages=513", "-o"])
        .arg(&trace);
    expect_code(&run(&mut command), 0);
    let classes = analyze("summary", &trace)["vms"][0]["classes"].clone();
    assert_eq!(classes["shadow"]["in_range"], 513, "{classes}");
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
}
