//! The times of a recording against two clocks that are not the probes': the kernel's own trace
//! buffer, and the guest's.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process};

use serde_json::Value;
use trace::{Record, Trace};

use crate::support::{
    analyze, collector, folder, json, record, run,
    tracefs::{Instance, TscRate},
};

/// Parts of 100 by which two medians of the same faults may differ.
const WITHIN: u64 = 5;

fn median(times: &[u64]) -> u64 {
    let mut times = times.to_vec();
    let middle = times.len() / 2;
    *times.select_nth_unstable(middle).1
}

/// Times of the faults that stored a leaf, in their order.
fn recorded(path: &Path) -> (u32, Vec<u64>) {
    let trace = Trace::open(path).expect("a trace");
    let records = trace.records().map(|record| record.expect("a whole trace"));
    let times = records.filter_map(|record| match record {
        Record::Fault(fault) if fault.spte.is_some() => Some(fault.total_ns.into()),
        _ => None,
    });
    (trace.meta().vms[0].pid, times.collect())
}

#[test]
#[ignore = "needs root, tracefs and a shadow MMU (/dev/kvm)"]
fn kvm_a_fault_takes_as_long_as_tracefs_says_in_the_same_run() {
    let instance = Instance::new();
    instance.write("trace_clock", "x86-tsc");
    for event in ["pagetable_walk", "spte_requested", "set_spte"] {
        instance.write(&format!("events/kvmmmu/kvm_mmu_{event}/enable"), "1");
    }
    let folder = folder();
    let trace = folder.path().join("w.trace");
    let pids = instance.pids();
    let mut command = collector();
    command.args(["run", "linear", "-p", "pages=2048", "--json", "-o"]);
    command.arg(&trace);
    // SAFETY: as in `tracefs.rs`: between fork and exec only a file is written.
    unsafe { command.pre_exec(move || fs::write(&pids, process::id().to_string())) };
    let rate = TscRate::begin();
    let outcome = json(&run(&mut command));
    let rate = rate.end();
    assert_eq!(outcome["recorded"]["lost"], 0);
    assert_eq!(instance.overruns(), 0, "tracefs kept everything");

    let (process, ours) = recorded(&trace);
    let theirs: Vec<u64> = instance.latencies(process);
    assert_eq!(ours.len(), theirs.len(), "the same faults");
    assert!(ours.len() >= 2048);
    let (ours, theirs) = (median(&ours), rate.ns(median(&theirs)));
    let apart = ours.abs_diff(theirs) * 100;
    assert!(
        apart <= theirs * WITHIN,
        "median {ours} ns, tracefs {theirs} ns"
    );
}

/// Runs a workload and gives the guest's clock, and its VM.
fn clock(args: &[&str]) -> (Value, Value) {
    let folder = folder();
    let (trace, outcome) = record(&folder, args);
    assert_eq!(outcome["recorded"]["lost"], 0, "{args:?}");
    let vm = analyze("summary", &trace)["vms"][0].clone();
    (vm["guest_clock"].clone(), vm)
}

fn number(of: &Value, key: &str) -> u64 {
    of[key].as_u64().unwrap_or_else(|| panic!("{key}: {of}"))
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_the_guest_pays_what_kvm_saw_and_more() {
    let workloads: [(&[&str], Option<u64>); 4] = [
        // Each page is stored to and loaded once.
        (&["linear", "-p", "pages=1024"], Some(2048)),
        (&["demand", "-p", "pages=1024"], Some(2048)),
        (&["remap", "-p", "pages=64", "-p", "rounds=4"], None),
        (&["smp"], None),
    ];
    let mut rest_of_a_fault = Vec::new();
    for (args, touches) in workloads {
        let (clock, vm) = clock(args);
        let (total, seen) = (number(&clock, "total_ns"), number(&clock, "seen_ns"));
        assert_eq!(number(&clock, "rest_ns"), total - seen, "{args:?}");
        assert!(
            seen > 0 && total <= number(&vm["run"], "total_ns"),
            "{args:?}: {clock}"
        );
        assert!(number(&clock, "max_ns") <= total, "{args:?}: {clock}");
        let range = &vm["range"];
        let faults = number(&clock, "faults");
        assert!(faults >= number(range, "guest") + number(range, "shadow"));
        let bins = clock["log2_cycles"].as_array().expect("bins");
        let all: u64 = bins.iter().map(|bin| bin.as_u64().expect("a count")).sum();
        assert_eq!(all, number(&clock, "touches"), "{args:?}: {clock}");
        if let Some(touches) = touches {
            assert_eq!(number(&clock, "touches"), touches, "{args:?}");
        }
        rest_of_a_fault.push(number(&clock, "rest_ns") / faults);
    }
    // `demand` pays its own handler, which `linear` never enters.
    let [linear, demand, ..] = rest_of_a_fault[..] else {
        panic!("two workloads: {rest_of_a_fault:?}");
    };
    assert!(demand > linear, "{rest_of_a_fault:?}");
}
