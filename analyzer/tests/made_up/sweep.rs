//! What `sweep` prints of made-up traces: the numbers that its curves draw.

use std::{
    fs,
    path::{Path, PathBuf},
};

use maker::{Maker, Shape};
use serde_json::{Value, json};

use super::demo::run;

/// A counter of 1 GHz: a cycle is a nanosecond. A batch of 10 operations, 50 ns of it empty.
fn micro(op: &str, ns: u64) -> Value {
    let batches: Vec<_> = [8, 10, 12].map(|part| 50 + ns * part).into();
    json!({
        "op": op, "count": 30, "cycles": batches.iter().sum::<u64>(), "batch": 10,
        "empty_cycles": 50, "batch_cycles": batches, "tsc_khz": 1_000_000,
    })
}

/// A trace of `micro`, or of the same VM under another name.
fn trace(path: &Path, op: &str, ns: u64) {
    let shape = Shape {
        pages: 64,
        ..Shape::default()
    };
    Maker::new(shape).write(path).unwrap();
    let file = path.join("meta.json");
    let mut meta: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    meta["workload"]["micro"] = micro(op, ns);
    meta["host"]["hypervisor"] = "kvm_pvm".into();
    meta["host"]["cpu"] = "made-up".into();
    meta["host"]["kernel"] = "6.18".into();
    fs::write(&file, meta.to_string()).unwrap();
}

/// Two operations, two runs each.
fn sweep() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut points = Vec::new();
    for (op, ns) in [("page-fault", 1000), ("protection-fault", 1500)] {
        let name = format!("op={op}");
        fs::create_dir_all(folder.path().join("m.sweep").join(&name)).unwrap();
        let runs = [1, 2].map(|number| {
            let path = format!("{name}/{number}.trace");
            let full = folder.path().join("m.sweep").join(&path);
            trace(&full, op, ns * (number + 1));
            json!({"trace": path, "order": number, "outcome": "done", "exit_code": 0})
        });
        points.push(json!({"folder": name, "params": {"op": op}, "runs": runs}));
    }
    let index = json!({
        "schema": 1, "workload": "micro", "params": {}, "repeat": 2, "warm_up": 1, "seed": 1,
        "over": [{"name": "op", "values": ["page-fault", "protection-fault"]}],
        "end": "done", "points": points,
    });
    fs::write(folder.path().join("m.sweep/sweep.json"), index.to_string()).unwrap();
    folder
}

/// The page of a sweep, in a folder.
pub(super) fn page(to: &Path) -> PathBuf {
    let folder = sweep();
    let page = to.join("sweep.html");
    let text = page.to_string_lossy();
    printed(folder.path(), &["sweep", "m.sweep", "-o", &text]);
    page
}

fn printed(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_sweep_over_operations_gives_the_data_of_its_curves_and_the_papers_numbers() {
    let folder = sweep();
    insta::assert_snapshot!(printed(folder.path(), &["sweep", "m.sweep"]));
    let json: Value =
        serde_json::from_str(&printed(folder.path(), &["sweep", "m.sweep", "--json"])).unwrap();
    let beside = &json["paper"]["beside"];
    assert_eq!(beside["ratios"][0]["ours"], 1.5);
    // Of the two runs' medians, 2,000 and 3,000 ns.
    let quartiles = beside["operations"][0]["quartiles_ns"].as_array().unwrap();
    assert_eq!(quartiles[1], 2500.0);
    let of = &json["points"][0]["operation_ns"];
    assert_eq!([&of["low"], &of["high"]], [2000.0, 3000.0]);
    // The same VM at each point: no count differs from the first point's, which has none.
    let classes = |point: usize| json["points"][point]["classes"].as_array().unwrap();
    for (first, other) in classes(0).iter().zip(classes(1)) {
        assert_eq!(first["against_first"], Value::Null);
        assert_eq!(other["against_first"]["count"]["change_percent"], 0.0);
        assert_eq!(other["against_first"]["count"]["verdict"], "within noise");
    }
}

#[test]
fn the_page_of_a_sweep_has_a_curve_for_each_number() {
    let folder = sweep();
    printed(folder.path(), &["sweep", "m.sweep", "-o", "m.html"]);
    let html = fs::read_to_string(folder.path().join("m.html")).unwrap();
    // Count, median and total of the classes, and the operation: by `op` alone.
    assert_eq!(html.matches("<svg").count(), 4);
    // Each is described to those who do not see it.
    assert_eq!(html.matches("<svg role=\"img\" aria-label=\"").count(), 4);
    for title in [
        "Against the first, op=page-fault",
        "within noise (1.00x to 1.00x)",
        "Median time of a fault by op",
        "Median time of an operation by op",
    ] {
        assert!(html.contains(title), "{title}");
    }
}

#[test]
fn the_summary_of_an_operation_has_the_papers_number() {
    let folder = sweep();
    let trace = "m.sweep/op=page-fault/1.trace";
    let text = printed(folder.path(), &["summary", trace]);
    let from = text.find("Beside").expect("a section");
    insta::assert_snapshot!(&text[from..]);
}

/// A folder of another kind gets an error that says which command reads it.
#[test]
fn a_folder_of_another_kind_gets_the_command_that_reads_it() {
    let folder = sweep();
    let copy = folder.path().join("my sweep");
    fs::create_dir(&copy).unwrap();
    fs::copy(
        folder.path().join("m.sweep/sweep.json"),
        copy.join("sweep.json"),
    )
    .unwrap();
    let failed = |args: &[&str]| {
        let output = run(folder.path(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (args, hint) in [
        (["report", "m.sweep"], "sweep m.sweep` reads it"),
        (["report", "my sweep"], "sweep 'my sweep'` reads it"),
        (["verify", "m.sweep/op=page-fault"], "adds them up"),
        (
            ["sweep", "m.sweep/op=page-fault/1.trace"],
            "summary 'm.sweep/op=page-fault/1.trace'` reads it",
        ),
        (
            ["sweep", "m.sweep/op=page-fault"],
            "sweep WORKLOAD` records",
        ),
    ] {
        let said = failed(&args);
        assert!(
            said.contains("hint: ") && said.contains(hint),
            "{args:?}: {said}"
        );
    }
}
