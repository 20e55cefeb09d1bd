//! What `diff` prints of made-up traces.

use std::{path::Path, process::Output};

use maker::{Maker, Shape};

use crate::support::analyzer;

fn folder(shapes: &[(&str, Shape)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape) in shapes {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        Maker::new(*shape).write(&path).unwrap();
    }
    folder
}

fn diff(folder: &Path, args: &[&str]) -> Output {
    // The name is in hints.
    analyzer()
        .current_dir(folder)
        .arg("diff")
        .args(args)
        .output()
        .unwrap()
}

fn text(output: &Output, code: i32) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

const SMALL: Shape = Shape {
    vms: maker::Vms::Run,
    pages: 500,
    passes: 2,
    segment: 200_000,
    lose: None,
    drift: None,
    late: None,
    cut: false,
};

#[test]
fn a_trace_is_equal_to_itself_and_passes_the_gate() {
    let folder = folder(&[("a.trace", SMALL)]);
    let output = diff(folder.path(), &["a.trace", "a.trace", "--fail-above", "5%"]);
    insta::assert_snapshot!(text(&output, 0));
}

#[test]
fn more_faults_are_found_named_and_fail_the_gate() {
    let more = Shape {
        pages: 800,
        ..SMALL
    };
    let folder = folder(&[
        ("base/1.trace", SMALL),
        ("base/2.trace", SMALL),
        ("new/1.trace", more),
        ("new/2.trace", more),
    ]);
    let sides = ["base", "new"];
    let output = diff(
        folder.path(),
        &[&sides[..], &["--fail-above", "5"]].concat(),
    );
    insta::assert_snapshot!(text(&output, 1));
    let markdown = diff(
        folder.path(),
        &[&sides[..], &["--format", "markdown"]].concat(),
    );
    assert!(text(&markdown, 0).contains("| class | what | base | new |"));
    let lists = [
        "--base",
        "base/1.trace",
        "base/2.trace",
        "--new",
        "new/1.trace",
        "new/2.trace",
        "--json",
    ];
    let json: serde_json::Value =
        serde_json::from_str(&text(&diff(folder.path(), &lists), 0)).unwrap();
    assert_eq!(json["verdict"], "changed");
    assert_eq!(json["differences"][0]["what"], "parameters");
    let guest = &json["classes"][0];
    assert_eq!(
        (&guest["class"], &guest["count"]["verdict"]),
        (&"guest".into(), &"higher".into())
    );
    assert_eq!(guest["count"]["change_percent"], 60.0);
    let by = json["culprits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["by"].clone());
    assert!(by.into_iter().any(|by| by == "gva-range"));
}

/// One run a side may not judge that, but it does not call it noise, and the gate stays shut.
#[test]
fn twice_the_faults_of_single_runs_fail_the_gate() {
    let more = Shape {
        pages: 1000,
        ..SMALL
    };
    let folder = folder(&[("a.trace", SMALL), ("b.trace", more)]);
    let output = diff(folder.path(), &["a.trace", "b.trace", "--fail-above", "5%"]);
    insta::assert_snapshot!(text(&output, 1));
    let fewer = diff(folder.path(), &["b.trace", "a.trace", "--fail-above", "5%"]);
    assert!(!text(&fewer, 0).contains("within noise:"));
}

/// A function is the same one where KASLR or a new build moved it.
#[test]
fn functions_are_compared_by_name() {
    let names = ["base/1.trace", "base/2.trace", "new/1.trace", "new/2.trace"];
    let folder = folder(&names.map(|name| (name, SMALL)));
    for name in names {
        let at = if name.starts_with("base") {
            "400000"
        } else {
            "401000"
        };
        let list = format!("0000000000{at} 0000000000002000 t work::touch\n");
        std::fs::write(folder.path().join(name).join("symbols.txt"), list).unwrap();
    }
    let json = diff(folder.path(), &["base", "new", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text(&json, 0)).unwrap();
    let rows = json["culprits"].as_array().unwrap().iter();
    let rows: Vec<_> = rows.filter(|row| row["by"] == "symbol").collect();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["key"], "work::touch");
    assert_eq!(rows[0]["count"]["verdict"], "within noise");
}

#[test]
fn what_is_wrong_with_a_side_is_above_all() {
    let lost = Shape {
        lose: Some(3),
        ..SMALL
    };
    let folder = folder(&[("a.trace", SMALL), ("b.trace", lost)]);
    let output = text(&diff(folder.path(), &["a.trace", "b.trace"]), 0);
    let first = output.lines().next().unwrap_or_default();
    assert_eq!(first, "b.trace: 1 record lost: its counts may be too low");
    let json = diff(folder.path(), &["a.trace", "b.trace", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let text = json.to_string();
    let count = |words: &str| text.matches(words).count();
    let judged = count("\"verdict\":\"higher\"") + count("\"verdict\":\"lower\"");
    assert!(
        judged == 0 && count("\"verdict\":\"records lost\"") > 0,
        "{json:#}"
    );
}

#[test]
fn one_side_alone_is_a_usage_error() {
    let folder = folder(&[("a.trace", SMALL)]);
    for args in [
        &["a.trace"][..],
        &["--base", "a.trace"],
        &["a.trace", "b.trace"],
    ] {
        assert_eq!(diff(folder.path(), args).status.code(), Some(2), "{args:?}");
    }
}
