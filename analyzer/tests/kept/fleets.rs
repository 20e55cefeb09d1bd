//! Several traces together: `summary` of a folder tree, and the SQL of `docs/sql` over it, which
//! gives the same numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

use crate::support::{analyzer, python, recording};

/// Host, date, recording.
const TREE: [[&str; 3]; 6] = [
    ["a", "2026-11-26", "demand"],
    ["b", "2026-11-26", "sync-lab"],
    ["b", "2026-11-27", "roots"],
    ["b", "2026-11-27", "keyframes"],
    ["b", "2026-11-27", "boot-lab"],
    ["c", "2026-11-27", "kept"],
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => _ = fs::copy(entry.path(), to).unwrap(),
        }
    }
}

fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for [host, date, name] in TREE {
        let to = format!("host={host}/date={date}/{name}.trace");
        copy(&recording(name), &folder.path().join(to));
    }
    folder
}

/// Exit code and standard output, in a folder.
fn say(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = analyzer().current_dir(folder).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let (code, text) = say(folder, args);
    assert_eq!(code, 0, "{args:?}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn several_traces_are_summed_up() {
    let folder = tree();
    let (code, text) = say(folder.path(), &["summary", "host=a", "host=b"]);
    assert_eq!(code, 0);
    insta::assert_snapshot!(text);
}

#[test]
fn sums_are_those_of_each_trace() {
    let folder = tree();
    let merged = json(folder.path(), &["summary", ".", "--json"]);
    let mut sums: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    let (mut faults, mut run) = (0, 0);
    for [_, _, name] in TREE {
        let emulated = name.ends_with("-lab");
        let one = json(&recording(""), &["summary", name, "--json"]);
        let vm = &one["vms"][0];
        faults += vm["faults"].as_u64().unwrap();
        if !emulated {
            run += vm["run"]["total_ns"].as_u64().unwrap();
        }
        for (class, cost) in vm["classes"].as_object().unwrap() {
            let [count, total] = sums.entry(class.clone()).or_default();
            *count += cost["count"].as_u64().unwrap();
            if !emulated {
                *total += cost["total_ns"].as_u64().unwrap();
            }
        }
    }
    assert_eq!(merged["faults"], faults);
    assert_eq!(merged["timed_traces"], 4);
    assert_eq!(merged["run_ns"], run);
    for (class, [count, total_ns]) in sums {
        let of = &merged["classes"][&class];
        assert_eq!(
            [&of["count"], &of["total_ns"]],
            [count, total_ns],
            "{class}"
        );
    }
}

#[test]
fn a_trace_that_cannot_be_read_is_named_and_the_others_are_summed_up() {
    let folder = tree();
    let meta = folder
        .path()
        .join("host=a/date=2026-11-26/demand.trace/meta.json");
    fs::write(meta, "{").unwrap();
    let (code, text) = say(folder.path(), &["summary", "host=a", "host=b"]);
    assert_eq!(code, 1);
    assert!(text.starts_with("NOT READ: host=a/"), "{text}");
    assert!(text.contains("4 traces"), "{text}");
    let (code, _) = say(folder.path(), &["summary", "host=b", "--vm", "0"]);
    assert_eq!(code, 2);
}

#[test]
#[ignore = "needs target/python, which .ci/setup test makes"]
fn python_duckdb_gives_the_analyzers_numbers() {
    sql_gives_the_analyzers_numbers("duckdb");
}

#[test]
#[ignore = "needs Java 17 and Spark, which .ci/setup fleets installs: make test-fleets"]
fn fleets_spark_gives_the_analyzers_numbers() {
    sql_gives_the_analyzers_numbers("spark");
}

fn sql_gives_the_analyzers_numbers(engine: &str) {
    let folder = tree();
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql");
    let text = python("run_sql.py", &[Path::new(engine), &sql, folder.path()]);
    let results: Value = serde_json::from_str(&text).unwrap();
    let rows = |query: &str, host: &str, name: &str| -> Vec<Value> {
        let trace = format!("{name}.trace");
        let rows = results[query].as_array().unwrap().iter();
        let of = rows.filter(|row| row["trace"] == trace && row["host"] == host);
        of.cloned().collect()
    };
    for [host, _, name] in TREE {
        let summary = json(&recording(""), &["summary", name, "--json"]);
        let vm = &summary["vms"][0];
        let of = |query| rows(query, host, name);
        costs(vm, &of("classes"), &of("steps"));
        let [run] = &of("run")[..] else {
            panic!("{name}: one run")
        };
        for (key, value) in vm["run"].as_object().unwrap() {
            if key != "acts_ns" {
                assert_eq!(run[key], *value, "{name} {key}");
            }
        }
        phases(vm, &of("phases"));
        changes(vm, &of("changes"));
        assert_eq!(of("lost")[0]["lost"], summary["lost"]["records"], "{name}");
        assert_eq!(of("lost")[0]["complete"], summary["complete"], "{name}");
        payers(name, vm, &of("payers"));
    }
}

fn costs(vm: &Value, classes: &[Value], steps: &[Value]) {
    let expected = vm["classes"].as_object().unwrap();
    assert_eq!(classes.len(), expected.len());
    let mut found = 0;
    for row in classes {
        let class = row["class"].as_str().unwrap();
        let of = &expected[class];
        for key in [
            "count", "total_ns", "p5_ns", "p50_ns", "p95_ns", "p99_ns", "max_ns",
        ] {
            assert_eq!(row[key], of[key], "{class} {key}");
        }
        for step in of["steps"].as_array().into_iter().flatten() {
            let is_it = |row: &&Value| row["class"] == class && row["step"] == step["step"];
            let row = steps.iter().find(is_it).expect("a step");
            for key in ["count", "total_ns"] {
                assert_eq!(row[key], step[key], "{class} {step}");
            }
            found += 1;
        }
    }
    assert_eq!(steps.len(), found);
}

fn phases(vm: &Value, rows: &[Value]) {
    // Phases are numbered; the analyzer leaves out the time before the first mark if no fault was
    // in it.
    let expected = vm["phases"].as_array().unwrap();
    let mut sums: BTreeMap<u64, (Value, u64, u64)> = BTreeMap::new();
    for row in rows {
        let phase = row["phase"].as_u64().unwrap();
        let sum = sums.entry(phase).or_insert((row["name"].clone(), 0, 0));
        sum.1 += row["count"].as_u64().unwrap();
        sum.2 += row["total_ns"].as_u64().unwrap();
    }
    let with_faults = expected.iter().filter_map(|phase| {
        let counts = phase["classes"].as_object()?.values();
        let count: u64 = counts.filter_map(Value::as_u64).sum();
        (count > 0).then(|| {
            (
                phase["name"].clone(),
                count,
                phase["total_ns"].as_u64().unwrap(),
            )
        })
    });
    if expected.is_empty() {
        // A trace without marks has no phases.
        assert!(sums.keys().all(|phase| *phase == 0));
        return;
    }
    assert_eq!(
        sums.into_values().collect::<Vec<_>>(),
        with_faults.collect::<Vec<_>>()
    );
}

fn changes(vm: &Value, rows: &[Value]) {
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for field in ["entries", "entries_unchanged"] {
        for (cause, count) in vm[field].as_object().unwrap() {
            *expected.entry(cause).or_default() += count.as_u64().unwrap();
        }
    }
    let rows = rows.iter().map(|row| {
        let cause = row["cause"].as_str().unwrap();
        (cause, row["count"].as_u64().unwrap())
    });
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), expected);
}

fn payers(name: &str, vm: &Value, rows: &[Value]) {
    let granules = [
        "top",
        name,
        "--by",
        "gva-range",
        "--granule",
        "2M",
        "--top",
        "100000",
    ];
    let granules = json(&recording(""), &[&granules[..], &["--json"]].concat());
    let summary = vm["payers"].as_array().unwrap().iter();
    let keys = summary.filter(|of| of["by"] != "gva-range");
    let mut seen = BTreeSet::new();
    for of in keys.chain([&granules["vms"][0]]) {
        let payer = match of["by"].as_str() {
            Some("gva-range") => "gva_2m",
            Some(by @ ("cr3" | "rip" | "vcpu")) => by,
            _ => continue,
        };
        seen.insert(payer);
        let rows: Vec<_> = rows.iter().filter(|row| row["payer"] == payer).collect();
        assert_eq!(rows.len(), of["keys"], "{name} {payer}");
        for one in of["payers"].as_array().unwrap() {
            let row = rows.iter().find(|row| row["name"] == one["key"]);
            let row = row.unwrap_or_else(|| panic!("{name}: {payer} {}", one["key"]));
            let expected = json!([one["count"], one["total_ns"], one["worst"]["ns"]]);
            let found = json!([row["count"], row["total_ns"], row["worst_ns"]]);
            assert_eq!(found, expected, "{name} {payer} {}", one["key"]);
        }
    }
    assert_eq!(seen.len(), 4, "{name}");
}
