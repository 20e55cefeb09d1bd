//! A sweep: its points, their order, what becomes of a failed one, and the curves.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{analyzer, collector, expect_code, folder, json, run};

fn index(sweep: &Path) -> Value {
    let text = fs::read(sweep.join("sweep.json")).expect("an index");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_sweep_records_every_point_and_gives_curves() {
    let folder = folder();
    let sweep = folder.path().join("s.sweep");
    let mut command = collector();
    command.args([
        "sweep",
        "demand",
        "--over",
        "pages=64,256",
        "--over",
        "write=true,false",
    ]);
    command.args(["--repeat", "2", "--warm-up", "1", "--json", "-o"]);
    let printed = json(&run(command.arg(&sweep)));
    assert_eq!(printed, index(&sweep));
    assert_eq!(printed["end"], "done");
    let points = printed["points"].as_array().expect("points");
    assert_eq!(points.len(), 4);
    let mut order = Vec::new();
    for point in points {
        let runs = point["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 2, "{point}");
        for run in runs {
            assert_eq!(run["outcome"], "done");
            order.extend(run["order"].as_u64());
            let trace = sweep.join(run["trace"].as_str().expect("a path"));
            assert!(trace.join("meta.json").is_file(), "{}", trace.display());
        }
    }
    order.sort_unstable();
    assert_eq!(order, (1..=8).collect::<Vec<_>>());

    let page = folder.path().join("s.html");
    let mut command = analyzer();
    command
        .arg("sweep")
        .arg(&sweep)
        .arg("--json")
        .arg("-o")
        .arg(&page);
    let curves = json(&run(&mut command));
    for point in curves["points"].as_array().expect("points") {
        let classes = point["classes"].as_array().expect("classes");
        let guest = classes
            .iter()
            .find(|row| row["class"] == "guest")
            .expect("guest");
        let pages: f64 = point["params"]["pages"]
            .as_str()
            .expect("pages")
            .parse()
            .expect("a number");
        let count = &guest["count"];
        assert_eq!(
            [&count["low"], &count["median"], &count["high"]],
            [&Value::from(pages); 3]
        );
        assert!(guest["p50_ns"]["low"].as_f64() <= guest["p50_ns"]["high"].as_f64());
    }
    let html = fs::read_to_string(&page).expect("a page");
    // Three numbers by pages at each value of write, and three by write at each of pages.
    assert_eq!(html.matches("<svg").count(), 12);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_sweep_names_a_point_that_fails_and_runs_the_others() {
    let folder = folder();
    let sweep = folder.path().join("s.sweep");
    let mut command = collector();
    command.args([
        "sweep",
        "crash",
        "--over",
        "kind=panic,triple",
        "--repeat",
        "1",
    ]);
    command.args(["--warm-up", "0", "-o"]);
    let output = run(command.arg(&sweep));
    expect_code(&output, 1);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("kind=panic/1.trace"), "{error}");
    assert!(error.contains("kind=triple/1.trace"), "{error}");
    let index = index(&sweep);
    assert_eq!(index["end"], "done");
    for point in index["points"].as_array().expect("points") {
        assert_eq!(point["runs"][0]["outcome"], "failed");
    }
    let mut command = analyzer();
    let curves = json(&run(command.arg("sweep").arg(&sweep).arg("--json")));
    assert_eq!(curves["points"][0]["left_out"], 1);
}
