//! What `export` writes of kept recordings, read by others: the sums are those of `summary`.

use std::{collections::BTreeMap, fs, path::Path};

use maker::each_kind;
use serde_json::Value;

use super::copy::Copy;
use crate::support::{analyzer, python, recording};

const NAMES: [&str; 12] = [
    "alias-lab",
    "boot-lab",
    "demand",
    "dirty-lab",
    "flood-lab",
    "keyframes",
    "lab",
    "loads",
    "loads-lab",
    "roots",
    "sync-lab",
    "unsync",
];

/// What a command prints.
fn say(args: &[&str], trace: &Path) -> String {
    let mut command = analyzer();
    let output = command.arg(args[0]).arg(trace).args(&args[1..]).output();
    let output = output.expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

fn json(args: &[&str], trace: &Path) -> Value {
    serde_json::from_str(&say(args, trace)).expect("JSON")
}

/// Count and time (ns) of each class.
type Classes = BTreeMap<String, (u64, u64)>;

fn summed(trace: &Path) -> Classes {
    let summary = json(&["summary", "--json"], trace);
    let mut classes = Classes::new();
    for vm in summary["vms"].as_array().expect("VMs") {
        for (class, of) in vm["classes"].as_object().expect("classes") {
            let entry = classes.entry(class.clone()).or_default();
            entry.0 += of["count"].as_u64().expect("a count");
            entry.1 += of["total_ns"].as_u64().expect("a time");
        }
    }
    classes
}

fn objects(lines: &str) -> Vec<Value> {
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect()
}

#[test]
fn rows_have_the_columns_of_the_trace_and_what_the_analyzer_knows() {
    let trace = recording("sync-lab");
    let head = |text: String| text.lines().take(3).collect::<Vec<_>>().join("\n");
    let csv = head(say(&["export", "--to", "csv", "--from", "seq:143"], &trace));
    let jsonl = head(say(
        &["export", "--to", "jsonl", "--class", "unsync"],
        &trace,
    ));
    let acts = head(say(&["export", "--to", "csv", "--what", "acts"], &trace));
    insta::assert_snapshot!([csv, jsonl, acts].join("\n\n"));
}

#[test]
fn rows_add_up_to_the_summary() {
    for name in NAMES {
        let trace = recording(name);
        let rows = objects(&say(&["export", "--to", "jsonl"], &trace));
        let mut classes = Classes::new();
        for row in &rows {
            let class = row["class"].as_str().expect("a class").to_owned();
            let entry = classes.entry(class).or_default();
            entry.0 += 1;
            entry.1 += row["total_ns"].as_u64().expect("a time");
        }
        assert_eq!(classes, summed(&trace), "{name}");
        let csv = say(&["export", "--to", "csv"], &trace);
        assert_eq!(csv.lines().count(), rows.len() + 1, "{name}");
        let columns = csv.lines().map(|line| line.split(',').count());
        assert!(
            columns
                .clone()
                .all(|of| of == columns.clone().next().unwrap())
        );
    }
}

/// The refaults of the rows are those that `refaults` counts. What a page was zapped for may show
/// only after the fault.
#[test]
fn rows_name_what_removed_the_entry() {
    for name in NAMES {
        let trace = recording(name);
        let mut rows: BTreeMap<String, u64> = BTreeMap::new();
        for row in objects(&say(&["export", "--to", "jsonl"], &trace)) {
            if let Some(cause) = row["removed_by"].as_str() {
                *rows.entry(cause.to_owned()).or_default() += 1;
            }
        }
        let later = ["zapped", "later"].map(|name| rows.remove(name).unwrap_or_default());
        let later: u64 = later.iter().sum();
        let refaults = json(&["refaults", "--json"], &trace);
        let mut more = 0;
        for cause in refaults["vms"][0]["refaults"]["causes"].as_array().unwrap() {
            let of = rows.get(cause["cause"].as_str().unwrap());
            let counted = cause["refaults"].as_u64().unwrap();
            more += counted - of.copied().unwrap_or_default();
        }
        assert_eq!(more, later, "{name}: {rows:?}");
    }
}

#[test]
fn a_profile_adds_up_to_the_summary() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.json");
    for name in NAMES {
        let trace = recording(name);
        say(
            &["export", "--to", "firefox", "-o", file.to_str().unwrap()],
            &trace,
        );
        let profile: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let mut classes = Classes::new();
        for thread in profile["threads"].as_array().unwrap() {
            add_profile(thread, &mut classes);
        }
        assert_eq!(classes, summed(&trace), "{name}");
    }
}

/// Faults are markers; the weight of a stack is the time at its root, which is the class.
fn add_profile(thread: &Value, classes: &mut Classes) {
    let text = |index: &Value| {
        let strings = thread["stringArray"].as_array().unwrap();
        let index = usize::try_from(index.as_u64().unwrap()).unwrap();
        strings[index].as_str().unwrap().to_owned()
    };
    let at = |column: &Value, index: usize| column.as_array().unwrap()[index].clone();
    let markers = &thread["markers"];
    for (index, data) in markers["data"].as_array().unwrap().iter().enumerate() {
        if data["type"] == "fault" {
            let class = text(&at(&markers["name"], index));
            classes.entry(class).or_default().0 += 1;
        }
    }
    let samples = &thread["samples"];
    let weights = samples["weight"].as_array().into_iter().flatten();
    for (index, weight) in weights.enumerate() {
        let mut stack = at(&samples["stack"], index);
        loop {
            let index = usize::try_from(stack.as_u64().expect("a stack")).unwrap();
            match at(&thread["stackTable"]["prefix"], index) {
                Value::Null => break,
                prefix => stack = prefix,
            }
        }
        let index = usize::try_from(stack.as_u64().unwrap()).unwrap();
        let frame = at(&thread["stackTable"]["frame"], index).as_u64().unwrap();
        let frame = usize::try_from(frame).unwrap();
        let function = at(&thread["frameTable"]["func"], frame).as_u64().unwrap();
        let function = usize::try_from(function).unwrap();
        let class = text(&at(&thread["funcTable"]["name"], function));
        classes.entry(class).or_default().1 += weight.as_u64().unwrap();
    }
}

/// What Perfetto's own messages say is in the file.
fn decoded(trace: &Path) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("d.pftrace");
    say(
        &["export", "--to", "perfetto", "-o", file.to_str().unwrap()],
        trace,
    );
    serde_json::from_str(&python("decode_perfetto.py", &[&file])).expect("JSON")
}

#[test]
#[ignore = "needs target/python, which .ci/setup test makes"]
fn python_slices_of_perfetto_add_up_to_the_summary() {
    for name in NAMES {
        let trace = recording(name);
        let file = decoded(&trace);
        let mut classes = Classes::new();
        for (class, of) in file["classes"].as_object().unwrap() {
            let time = of["total_ns"].as_u64().unwrap();
            classes.insert(class.clone(), (of["count"].as_u64().unwrap(), time));
        }
        assert_eq!(classes, summed(&trace), "{name}");
        let summary = json(&["summary", "--json"], &trace);
        for (class, of) in summary["vms"][0]["classes"].as_object().unwrap() {
            for step in of["steps"].as_array().into_iter().flatten() {
                let key = format!("{class} {}", step["step"].as_str().unwrap());
                assert_eq!(file["steps"][&key], step["total_ns"], "{name}: {key}");
            }
        }
        // What removed it has no record before the fault, or none at all.
        let is_unseen = |cause: &str| matches!(cause, "not_seen" | "later");
        let arrows = |field: &str| -> u64 {
            let of = file[field].as_object().unwrap().iter();
            of.filter(|(cause, _)| !is_unseen(cause))
                .map(|(_, of)| of.as_u64().unwrap())
                .sum()
        };
        assert_eq!(arrows("arrows"), arrows("removed_by"), "{name}");
    }
}

#[test]
#[ignore = "needs target/python, which .ci/setup test makes"]
fn python_a_recording_in_perfetto() {
    let file = decoded(&recording("sync-lab"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&file).unwrap());
}

#[test]
#[ignore = "needs target/python, which .ci/setup test makes"]
fn python_lost_records_are_slices() {
    let mut copy = Copy::of("demand");
    each_kind!(&mut copy.rows, rows => rows.retain(|row| !(500..503).contains(&row.seq.0)));
    let file = copy.with(decoded);
    let lost = file["lost"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0][2], 3);
}
