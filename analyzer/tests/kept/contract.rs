//! The contract of every `--json` (docs/trace.md), over recordings that the collector made.

use std::path::Path;

use serde_json::Value;

use crate::support::{analyzer, recording};

const COMMANDS: &[&[&str]] = &[
    &["summary"],
    &["summary", "--verbose"],
    &["report"],
    &["verify"],
    &["audit"],
    &["timeline"],
    &["timeline", "--show", "levels"],
    &["timeline", "--show", "causes"],
    &["memory"],
    &["memory", "--at", "end"],
    &["refaults"],
    &["pathologies"],
    &["faults", "--top", "50"],
    &["changes", "--top", "50"],
    &["find", "--gva", "0x10fddc"],
    &["find", "--gfn", "0x110"],
    &["find", "--hpa", "0x1000"],
    &["top", "--by", "cr3"],
    &["top", "--by", "rip"],
    &["top", "--by", "symbol"],
    &["top", "--by", "gva-range"],
    &["top", "--by", "slot"],
    &["top", "--by", "guest-table"],
    &["top", "--by", "shadow-page"],
    &["top", "--by", "vcpu"],
    &["top", "--by", "cause"],
    &["table", "--at", "end"],
    &["table", "--as", "json"],
    &["table", "--gva", "0x10fddc"],
    &["table", "--diff", "seq:20", "end"],
    &["explain", "--fault", "7"],
    &["explain", "--class", "guest"],
    &["explain", "--class", "shadow"],
    &["explain", "--cause", "link"],
    &["explain", "--seq", "40"],
    &["explain", "--gva", "0x10fddc"],
    &["schema"],
];

/// Their values are addresses, frames or entries.
const HEX: &[&str] = &[
    "gva",
    "gpa",
    "hva",
    "hpa",
    "cr3",
    "root",
    "rip",
    "sptep",
    "spte",
    "spt",
    "old",
    "new",
    "gfn",
    "pfn",
    "first_pfn",
    "leaf_gfn",
    "gpte",
    "gpte1",
    "gpte2",
    "gpte3",
    "gpte4",
    "gpte5",
    "pdpte0",
    "pdpte1",
    "pdpte2",
    "pdpte3",
    "end",
    "before",
    "value",
    "hva_by_slot",
    "pfn_by_shadow",
    "range_gva",
    "parent",
];

/// A name of `HEX` that is something else in this command.
const NOT_HEX: &[(&str, &str)] = &[("summary", "end"), ("timeline", "end")];

const LARGEST: f64 = 9_007_199_254_740_992.0;

#[test]
fn every_json_keeps_the_contract() {
    let mut broken = Vec::new();
    let folder = recording("");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    assert!(names.len() > 8, "{names:?}");
    let mut read = 0;
    for args in COMMANDS {
        for trace in &names {
            let Some(json) = json(trace, args) else {
                continue;
            };
            read += 1;
            let name = trace.file_name().unwrap().to_string_lossy();
            check(&json, "", args[0], &mut |what| {
                broken.push(format!("{} of {name}: {what}", args.join(" ")));
            });
        }
    }
    broken.dedup();
    assert!(read > COMMANDS.len(), "{read}");
    let shown: Vec<_> = broken.iter().take(40).map(String::as_str).collect();
    assert!(broken.is_empty(), "{}:\n{}", broken.len(), shown.join("\n"));
}

/// None if the recording has no such thing.
fn json(trace: &Path, args: &[&str]) -> Option<Value> {
    let mut command = analyzer();
    command.current_dir(trace.parent().unwrap());
    command.arg(args[0]);
    if args[0] != "schema" {
        command.arg(trace.file_name().unwrap());
    }
    if !args.contains(&"--as") {
        command.arg("--json");
    }
    if matches!(args[0], "report") {
        let folder = tempfile::tempdir().unwrap();
        command.arg("-o").arg(folder.path().join("r.html"));
    }
    let output = command.args(&args[1..]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    match output.status.code() {
        Some(0 | 1) if !text.is_empty() => Some(serde_json::from_str(&text).unwrap()),
        Some(1 | 2) => None,
        code => panic!(
            "{args:?}: {code:?} {}",
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

fn check(value: &Value, key: &str, command: &str, broken: &mut impl FnMut(String)) {
    match value {
        Value::Number(number) => {
            let is_other = NOT_HEX.contains(&(command, key));
            if HEX.contains(&key) && !is_other {
                broken(format!("`{key}` is the number {number}"));
            }
            if number.as_f64().is_some_and(|number| number.abs() > LARGEST) {
                broken(format!("`{key}` is above 2^53: {number}"));
            }
        }
        Value::Array(values) => {
            if values.iter().any(Value::is_array) {
                broken(format!("`{key}` is an array of arrays"));
            }
            let kinds = values.iter().map(kind).filter(|kind| *kind != "null");
            if kinds.collect::<std::collections::BTreeSet<_>>().len() > 1 {
                broken(format!("`{key}` holds things of several kinds"));
            }
            for value in values {
                check(value, key, command, broken);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                check(value, key, command, broken);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Of the records of a cause, `entries` counts those that changed their entry.
#[test]
fn what_was_read_again_and_had_not_changed_is_no_change() {
    let (mut changed, mut unchanged) = (0, 0);
    for name in ["demand", "loads", "unsync"] {
        let summary = json(&recording(name), &["summary"]).unwrap();
        for vm in summary["vms"].as_array().unwrap() {
            let sum = |key: &str| -> u64 {
                let counts = vm[key].as_object().unwrap().values();
                counts.filter_map(Value::as_u64).sum()
            };
            changed += sum("entries");
            unchanged += sum("entries_unchanged");
        }
        let explained = json(&recording(name), &["explain", "--cause", "reread"]);
        if let Some(change) = explained
            && sum_of(&summary, "reread") > 0
        {
            assert_ne!(
                change["old"], change["spte"],
                "{name}: a real change comes first"
            );
        }
    }
    assert!(changed > 0 && unchanged > 0, "{changed}, {unchanged}");
}

fn sum_of(summary: &Value, cause: &str) -> u64 {
    let vms = summary["vms"].as_array().unwrap().iter();
    vms.filter_map(|vm| vm["entries"][cause].as_u64()).sum()
}
