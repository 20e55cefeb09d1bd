//! Acts of KVM have times where functions can be hooked.

use serde_json::Value;

use super::lab;
use crate::support::{analyze, folder, json, run};

/// Records a workload in the lab; gives its VM's summary.
fn vm(args: &[&str]) -> Value {
    let folder = folder();
    let trace = folder.path().join("a.trace");
    let outcome = json(&run(lab().args(args).arg("--json").arg("-o").arg(&trace)));
    assert_eq!(outcome["recorded"]["lost"], 0, "{outcome}");
    analyze("summary", &trace)["vms"][0].clone()
}

fn number(of: &Value, keys: &[&str]) -> u64 {
    let value = keys.iter().fold(of, |value, key| &value[*key]);
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{keys:?}: {value}"))
}

fn has_times(vm: &Value, act: &str) {
    let of = &vm["acts"][act];
    assert!(number(of, &["count"]) > 0, "{act}: {}", vm["acts"]);
    let total = number(of, &["total_ns"]);
    let mut times = vec![number(of, &["p50_ns"])];
    // Of few acts these are left out.
    times.extend(
        ["p95_ns", "p99_ns"]
            .iter()
            .filter_map(|key| of[*key].as_u64()),
    );
    times.extend([number(of, &["max_ns"]), total]);
    assert!(times[0] > 0 && times.is_sorted(), "{act}: {of}");
    assert!(total <= number(vm, &["run", "total_ns"]), "{act}: {of}");
    assert!(number(of, &["in_faults_ns"]) <= total, "{act}: {of}");
    let run = &vm["run"];
    assert!(
        number(run, &["acts_ns"]) <= number(run, &["not_attributed_ns"]),
        "{run}"
    );
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_a_sync_has_its_time() {
    let vm = vm(&["unsync", "-p", "flush=cr3"]);
    has_times(&vm, "sync_roots");
    assert!(number(&vm, &["acts", "sync_roots", "synced"]) > 0);
    // Every class says how much of it was sync, if only 0.
    for (name, class) in vm["classes"].as_object().expect("classes") {
        assert!(
            number(class, &["sync_ns"]) <= number(class, &["total_ns"]),
            "{name}"
        );
    }
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_a_pass_over_the_dirty_log_has_its_time() {
    let vm = vm(&["dirty"]);
    for act in ["dirty_start", "dirty_clear"] {
        has_times(&vm, act);
        let (acts, host) = (
            number(&vm, &["acts", act, "count"]),
            number(&vm, &["host", act]),
        );
        assert_eq!(acts, host, "{act}: each act of the host has its time");
    }
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_what_the_mmu_notifier_does_has_its_time() {
    let vm = vm(&["reclaim"]);
    has_times(&vm, "unmap");
    let (acts, host) = (
        number(&vm, &["acts", "unmap", "count"]),
        number(&vm, &["host", "unmap"]),
    );
    assert_eq!(acts, host, "each act of the host has its time");
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_a_flooded_table_is_zapped_in_a_time() {
    let vm = vm(&["flood"]);
    has_times(&vm, "write_zap");
    assert!(number(&vm, &["acts", "write_zap", "zapped"]) > 0);
    has_times(&vm, "zap_page");
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_an_invlpg_and_a_flushed_memslot_have_their_times() {
    has_times(&vm(&["unsync"]), "invlpg");
    let vm = vm(&["memslot"]);
    has_times(&vm, "flush_slot");
    let (acts, host) = (
        number(&vm, &["acts", "flush_slot", "count"]),
        number(&vm, &["host", "flush_slot"]),
    );
    assert_eq!(acts, host, "each act of the host has its time");
}
