//! The accounts of a trace close, to the nanosecond: synthetic traces, and recordings that the
//! collector really made.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use maker::{Maker, Shape, Vms};
use serde_json::Value;
use trace::{Record, Records, Trace};

use crate::support::{analyzer, recording};

fn json(args: &[&str], trace: &Path) -> Value {
    let output = analyzer()
        .arg(args[0])
        .arg(trace)
        .args(&args[1..])
        .arg("--json")
        .output()
        .expect("the program starts");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What the rows say without the analyzer: first and last moment, and of each class and each kind
/// of act how many and how long.
#[derive(Default)]
struct Truth {
    span: Option<[u64; 2]>,
    classes: BTreeMap<&'static str, (u64, u64)>,
    acts: BTreeMap<&'static str, (u64, u64)>,
}

fn truth(path: &Path) -> BTreeMap<u64, Truth> {
    let trace = Trace::open(path).expect("a trace");
    let mut vms: BTreeMap<u64, Truth> = BTreeMap::new();
    for record in Records::new(trace.stretches(trace::Part::default())) {
        let record = record.expect("a record");
        if matches!(record, Record::Loss(_)) {
            continue;
        }
        let vm = vms.entry(record.vm().0.into()).or_default();
        let mut end = record.time().0;
        if let Record::Fault(row) = &record {
            end += row.total_ns;
            let class = vm.classes.entry(row.class.name()).or_default();
            class.0 += 1;
            class.1 += row.total_ns;
        }
        if let Record::Act(row) = &record {
            end += row.total_ns;
            let act = vm.acts.entry(row.act.name()).or_default();
            act.0 += 1;
            act.1 += row.total_ns;
        }
        let [from, to] = vm.span.unwrap_or([record.time().0, end]);
        vm.span = Some([from.min(record.time().0), to.max(end)]);
    }
    vms
}

/// Checks every sum of a trace's summary.
fn close(path: &Path) {
    let truth = truth(path);
    let summary = json(&["summary"], path);
    for vm in summary["vms"].as_array().expect("VMs") {
        let about = format!("{} VM {}", path.display(), vm["vm"]);
        let true_vm = &truth[&vm["vm"].as_u64().unwrap()];
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{about}: {value}"));
        let classes = vm["classes"].as_object().expect("classes");
        assert_eq!(classes.len(), true_vm.classes.len(), "{about}");
        let mut in_faults = 0;
        for (name, class) in classes {
            let total = number(&class["total_ns"]);
            let true_class = true_vm.classes[name.as_str()];
            assert_eq!(
                (number(&class["count"]), total),
                true_class,
                "{about} {name}"
            );
            in_faults += total;
            let steps = class["steps"].as_array().map_or(&[][..], |steps| steps);
            let wholes = steps.iter().filter(|step| step["part_of"].is_null());
            let attributed: u64 = wholes.map(|step| number(&step["total_ns"])).sum();
            let rest = number(&class["not_attributed_ns"]);
            assert_eq!(attributed + rest, total, "{about} {name}");
            let times = percentiles(class, &format!("{about} {name}"));
            for part in steps.iter().filter(|step| !step["part_of"].is_null()) {
                let mut wholes = steps.iter();
                let whole = wholes.find(|step| step["step"] == part["part_of"]);
                let counts = whole.map(|whole| [&whole["count"], &part["count"]]);
                let counts = counts.map(|counts| counts.map(number));
                assert!(
                    counts.is_some_and(|[whole, of]| whole >= of),
                    "{about} {name} {part}"
                );
            }
            let share = class["run_percent"].as_f64().expect("a share");
            let run = number(&vm["run"]["total_ns"]) as f64;
            assert!(
                (share - total as f64 * 100.0 / run).abs() < 1e-9,
                "{about} {name}"
            );
            match times.get(&99) {
                Some(p99) => leads_to(path, vm, class, "p99_seq", *p99),
                None => assert!(class["p99_seq"].is_null(), "{about} {name}"),
            }
            leads_to(path, vm, class, "max_seq", times[&100]);
        }
        let run = &vm["run"];
        let [from, to] = true_vm.span.expect("records");
        assert_eq!(number(&run["wall_ns"]), to - from, "{about}");
        let vcpus = vm["vcpus"].as_array().expect("vCPUs").len() as u64;
        assert_eq!(number(&run["total_ns"]), (to - from) * vcpus, "{about}");
        assert_eq!(number(&run["faults_ns"]), in_faults, "{about}");
        assert_eq!(
            in_faults + number(&run["not_attributed_ns"]),
            number(&run["total_ns"]),
            "{about}"
        );
        acts_close(vm, &true_vm.acts, &about);
    }
}

/// Each kind of act has its time, and no more of it lies in faults; outside of faults they take no
/// more than what is left of the run.
fn acts_close(vm: &Value, truth: &BTreeMap<&'static str, (u64, u64)>, about: &str) {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{about}: {value}"));
    let Some(acts) = vm["acts"].as_object() else {
        assert!(
            truth.is_empty() && vm["run"]["acts_ns"].is_null(),
            "{about}"
        );
        return;
    };
    assert_eq!(acts.len(), truth.len(), "{about}");
    let mut in_faults = 0;
    for (name, act) in acts {
        let total = number(&act["total_ns"]);
        assert_eq!(
            (number(&act["count"]), total),
            truth[name.as_str()],
            "{about} {name}"
        );
        assert!(number(&act["in_faults_ns"]) <= total, "{about} {name}");
        let times = percentiles(act, &format!("{about} {name}"));
        assert!(times[&100] <= number(&act["total_ns"]), "{about} {name}");
        if name.starts_with("sync") {
            in_faults += number(&act["in_faults_ns"]);
        }
    }
    let run = &vm["run"];
    assert!(
        number(&run["acts_ns"]) <= number(&run["not_attributed_ns"]),
        "{about}"
    );
    let classes = vm["classes"].as_object().expect("classes");
    let syncs = classes.values().map(|class| number(&class["sync_ns"]));
    assert_eq!(syncs.sum::<u64>(), in_faults, "{about}");
}

/// The record that a percentile names is a fault that took so long.
/// The percentiles that so many times have, and the longest; those of too few are null.
fn percentiles(of: &Value, about: &str) -> BTreeMap<u64, u64> {
    let count = of["count"].as_u64().unwrap();
    let mut times = BTreeMap::new();
    for (percent, least) in [(5, 20), (50, 1), (95, 20), (99, 100), (100, 1)] {
        let key = match percent {
            100 => "max_ns".to_owned(),
            percent => format!("p{percent}_ns"),
        };
        let Some(value) = of.get(&key) else {
            continue;
        };
        assert_eq!(value.is_null(), count < least, "{about} {key} of {count}");
        times.extend(value.as_u64().map(|ns| (percent, ns)));
    }
    assert!(times.values().is_sorted(), "{about}: {times:?}");
    times
}

fn leads_to(path: &Path, vm: &Value, class: &Value, key: &str, ns: u64) {
    let seq = class[key].as_u64().expect("a record's number").to_string();
    let vm = vm["vm"].to_string();
    let explained = json(&["explain", "--vm", &vm, "--seq", &seq], path);
    let took = &explained["total_ns"];
    assert_eq!(took.as_u64(), Some(ns), "{} --seq {seq}", path.display());
}

fn recordings() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(recording("")).expect("recordings");
    let folders = entries.map(|entry| entry.expect("an entry").path());
    folders
        .filter(|path| path.join("meta.json").is_file())
        .collect()
}

#[test]
fn the_accounts_of_real_recordings_close() {
    let recordings = recordings();
    assert!(recordings.len() >= 5, "{recordings:?}");
    for recording in recordings {
        close(&recording);
    }
}

#[test]
fn the_accounts_of_synthetic_traces_close() {
    let folder = tempfile::tempdir().expect("a folder");
    let lost = Shape {
        pages: 64,
        lose: Some(7),
        ..Shape::default()
    };
    let two = Shape {
        vms: Vms::Attached,
        passes: 3,
        ..Shape::default()
    };
    for (name, shape) in [("one", Shape::default()), ("lost", lost), ("two", two)] {
        let path = folder.path().join(name);
        Maker::new(shape).write(&path).expect("a trace");
        close(&path);
    }
}

/// In a recording whose counters of the end are kept, the classes are KVM's numbers.
#[test]
fn class_counts_are_those_of_kvms_counters() {
    let mut compared = 0;
    for recording in recordings() {
        for vm in json(&["summary"], &recording)["vms"]
            .as_array()
            .expect("VMs")
        {
            let class = |name: &str| vm["classes"][name]["count"].as_u64().unwrap_or(0);
            let of = |counter: &str| {
                let lines = vm["reconciliation"].as_array()?.iter();
                let mut lines = lines.filter(|line| line["counter"] == counter);
                lines.next()?["kvm"].as_u64()
            };
            for (counter, classes) in [
                ("pf_fixed", &["shadow", "unsync", "fast"][..]),
                ("pf_spurious", &["spurious"]),
                ("pf_fast", &["fast"]),
            ] {
                let Some(kvm) = of(counter) else { continue };
                let sum: u64 = classes.iter().map(|name| class(name)).sum();
                assert_eq!(sum, kvm, "{} {counter}", recording.display());
                compared += 1;
            }
        }
    }
    assert!(compared >= 12, "{compared} counters compared");
}

/// The moment with the most shadow pages is one moment, and none amid a fault.
#[test]
fn the_peak_of_the_summary_is_that_of_memory() {
    let mut compared = 0;
    for recording in recordings() {
        let [summary, memory] =
            [["summary"], ["memory"]].map(|args| json(&args, &recording)["vms"].clone());
        let vms = |of: Value| of.as_array().cloned().unwrap_or_default();
        for (of, other) in vms(summary).iter().zip(vms(memory)) {
            let [peak, moment] = [&of["memory"], &other["moment"]];
            for field in ["seq", "pages"] {
                assert_eq!(
                    peak[field],
                    moment[field],
                    "{} {field}",
                    recording.display()
                );
            }
            compared += 1;
        }
    }
    assert!(compared >= 12, "{compared} VMs compared");
}
