//! Operations that the guest times, on this host's KVM.

use std::path::Path;

use serde_json::Value;

use crate::support::{
    analyze, analyzer, collector, expect_code, folder, json, record, run, stderr,
};

/// The operations that this host's KVM-PVM can do.
const OPS: [&str; 9] = [
    "shadow-fault",
    "page-fault",
    "protection-fault",
    "map-unmap",
    "cr3-switch",
    "exception",
    "cpuid",
    "pio",
    "fork",
];

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_every_operation_is_timed() {
    for op in OPS {
        let folder = folder();
        let (param, batches) = (format!("op={op}"), 7);
        let args = ["micro", "-p", &param, "-p", "ops=8", "-p", "batches=7"];
        let (trace, outcome) = record(&folder, &args);
        assert_eq!(outcome["micro"]["op"], op);
        let meta: Value =
            serde_json::from_slice(&std::fs::read(trace.join("meta.json")).expect("metadata"))
                .expect("JSON");
        let micro = &meta["workload"]["micro"];
        let cycles = micro["batch_cycles"].as_array().expect("batches");
        assert_eq!(cycles.len(), batches, "{op}");
        let of_one = if op == "fork" { 1 } else { 8 };
        assert_eq!(micro["count"], of_one * batches, "{op}");
        let sum: f64 = cycles.iter().map(number).sum();
        assert_eq!(number(&micro["cycles"]), sum, "{op}");
        let empty = number(&micro["empty_cycles"]);
        assert!(
            empty > 0.0 && sum > empty * cycles.len() as f64,
            "{op}: {micro}"
        );
        let summary = analyze("summary", &trace)["micro"].clone();
        let quartiles = &summary["quartiles_ns"];
        assert_eq!(quartiles[1], outcome["micro"]["median_ns"], "{op}");
        assert!(number(&quartiles[1]) > 0.0, "{op}: {summary}");
        assert!(
            number(&quartiles[0]) <= number(&quartiles[2]),
            "{op}: {summary}"
        );
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_only_kvm_pvm_refuses_operations() {
    for op in ["hypercall", "syscall", "syscall-kpti"] {
        let param = format!("op={op}");
        let output = run(collector().args(["run", "micro", "-p", &param, "--untraced"]));
        if !Path::new("/sys/module/kvm_pvm").exists() {
            expect_code(&output, 0);
            continue;
        }
        expect_code(&output, 3);
        let said = stderr(&output);
        assert!(
            said.contains(&format!("`{op}` cannot be done here")),
            "{said}"
        );
        assert!(said.contains(&format!("lab micro -p op={op}")), "{said}");
    }
}

/// The guest pays for what KVM does and for the world switches around it.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_the_guest_pays_at_least_what_kvm_sees() {
    let folder = folder();
    let args = ["micro", "-p", "op=shadow-fault", "-p", "ops=256"];
    let (trace, _) = record(&folder, &args);
    let summary = analyze("summary", &trace);
    let phases = summary["vms"][0]["phases"].as_array().expect("phases");
    let work = phases.iter().find(|phase| phase["name"] == "work");
    let work = work.expect("the phase work");
    let meta: Value =
        serde_json::from_slice(&std::fs::read(trace.join("meta.json")).expect("metadata"))
            .expect("JSON");
    let micro = &meta["workload"]["micro"];
    let range = &summary["vms"][0]["range"];
    assert_eq!(range["shadow"], range["expected_shadow"], "{range}");
    // The guest's own code and stack fault a few times too.
    let others = number(&work["classes"]["shadow"]) - number(&micro["count"]);
    assert!((0.0..16.0).contains(&others), "{work}");
    let paid_ns = number(&micro["cycles"]) * 1e6 / number(&micro["tsc_khz"]);
    assert!(paid_ns >= number(&work["total_ns"]), "{paid_ns}: {work}");
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_sweep_over_operations_is_set_beside_the_paper() {
    let folder = folder();
    let sweep = folder.path().join("m.sweep");
    let mut command = collector();
    command.args(["sweep", "micro", "--over"]);
    command.arg("op=shadow-fault,page-fault,protection-fault,exception");
    command.args(["-p", "batches=20", "--repeat", "2", "--warm-up", "0", "-o"]);
    assert!(run(command.arg(&sweep)).status.success());
    let printed = json(&run(analyzer().arg("sweep").arg(&sweep).arg("--json")));
    let beside = &printed["paper"]["beside"];
    let ratio = |op: &str, of: &str| {
        let ratios = beside["ratios"].as_array().expect("ratios");
        let found = ratios.iter().find(|row| row["op"] == op && row["of"] == of);
        found
            .unwrap_or_else(|| panic!("{op} / {of}: {beside}"))
            .clone()
    };
    let faults = ratio("protection-fault", "page-fault");
    // 2.65 us and 0.88 us.
    assert_eq!((number(&faults["published"][1]) * 100.0).round(), 301.0);
    assert!(number(&faults["ours"]) > 0.0, "{faults}");
    // A page fault has an exception and more.
    let exception = ratio("page-fault", "exception");
    assert!(number(&exception["ours"]) > 1.0, "{exception}");
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_sweep_over_processes_shows_how_alloc_scales() {
    let folder = folder();
    let sweep = folder.path().join("a.sweep");
    let mut command = collector();
    command.args(["sweep", "alloc", "--over", "processes=1,4"]);
    command.args(["-p", "mib=2", "--repeat", "2", "--warm-up", "0", "-o"]);
    assert!(run(command.arg(&sweep)).status.success());
    let printed = json(&run(analyzer().arg("sweep").arg(&sweep).arg("--json")));
    let scaling = printed["paper"]["beside"]["scaling"]
        .as_array()
        .expect("steps")
        .clone();
    let of: Vec<_> = scaling
        .iter()
        .map(|step| step["processes"].as_u64())
        .collect();
    assert_eq!(of, [Some(1), Some(4)]);
    assert_eq!(scaling[0]["times"], 1.0);
    // Four times the work on one CPU.
    assert!(number(&scaling[1]["times"]) > 2.0, "{scaling:?}");
}
