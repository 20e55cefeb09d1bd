//! The lab with an Intel CPU, which Bochs emulates: the same checks on `kvm_intel ept=0`. A boot
//! takes a minute, so that several workloads share one.

use super::{exact::in_the_lab, lab, recorded_and_counted};
use crate::support::{expect_code, expect_only, folder, json, run, stderr};

/// `collector lab --vendor intel` with the kernel under test.
fn intel() -> std::process::Command {
    let mut command = lab();
    command.args(["--vendor", "intel", "--memory", "2048"]);
    command
}

#[test]
#[ignore = "needs Bochs and a kernel package"]
fn lab_intel_demand_is_exact_and_tracefs_counts_the_same() {
    recorded_and_counted(intel(), &["demand", "-p", "pages=512"]);
}

#[test]
#[ignore = "needs Bochs and a kernel package"]
fn lab_intel_tables_are_exact_in_mid_run() {
    let items = [
        "demand:pages=512",
        "unsync:tables=16",
        "dirty:pages=64,clear=true",
    ];
    in_the_lab(intel(), &items);
}

/// Small sizes: Bochs needs most of a minute to load the probes of a run. `memslot`, and `mixed`,
/// which moves memslots too, did not end there.
#[test]
#[ignore = "needs Bochs and a kernel package, takes long"]
fn lab_intel_long_other_workloads_are_exact() {
    let items = [
        "remap:pages=16",
        "switch:spaces=2",
        "fork:pages=16",
        "flood:rounds=5",
        "protect:pages=8",
        "alias:aliases=10",
        "reclaim:pages=64",
    ];
    in_the_lab(intel(), &items);
}

#[test]
#[ignore = "needs Bochs and a kernel package"]
fn lab_intel_doctor_finds_it_able_and_every_field() {
    let report = json(&run(intel().args(["--", "doctor", "--json"])));
    assert_eq!(report["able"], true, "{report:#}");
    let text = report.to_string();
    assert!(
        text.contains("kvm_intel: every VM uses shadow paging"),
        "{report:#}"
    );
    let findings = report["findings"].as_array().expect("findings");
    let of = |section: &'static str| findings.iter().filter(move |one| one["section"] == section);
    assert!(
        of("types").count() > 0 && of("probes").count() > 20,
        "{report:#}"
    );
    for finding in of("types").chain(of("probes")) {
        assert_eq!(finding["state"], "ok", "{finding:#}");
    }
}

#[test]
#[ignore = "needs Bochs and a kernel package"]
fn lab_intel_with_ept_run_refuses_with_the_remedy() {
    let folder = folder();
    let mut command = intel();
    command
        .args([
            "linear",
            "--module-param",
            "kvm_intel.ept=1",
            "-o",
            "w.trace",
        ])
        .current_dir(folder.path());
    let output = run(&mut command);
    expect_code(&output, 3);
    let said = stderr(&output);
    assert!(said.contains("modprobe kvm_intel ept=0"), "{said}");
    expect_only(&folder, &[]);
}
