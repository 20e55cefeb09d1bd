//! Real runs compared: equal ones are within noise, a change is found.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{analyzer, collector, expect_code, folder, json, run};

/// Records `demand` with so many pages.
fn record(trace: &Path, pages: &str) {
    let mut command = collector();
    command
        .args(["run", "demand", "-p", pages, "-o"])
        .arg(trace);
    expect_code(&run(&mut command), 0);
}

/// A kernel's CI would do this: both sides in turns, so that what the machine does meets both.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_diff_of_equal_runs_is_noise_and_more_faults_are_found() {
    let folder = folder();
    let side = |name: &str| folder.path().join(name);
    let sides = [
        ("base", "pages=1024"),
        ("same", "pages=1024"),
        ("more", "pages=1200"),
    ];
    for (name, _) in sides {
        fs::create_dir(side(name)).expect("a folder");
    }
    for round in 1..=3 {
        for (name, pages) in sides {
            record(&side(name).join(format!("{round}.trace")), pages);
        }
    }
    let diff = |new: &str| {
        let mut command = analyzer();
        command.arg("diff").arg(side("base")).arg(side(new));
        command.args(["--fail-above", "5%", "--json"]);
        command
    };
    let same = json(&run(&mut diff("same")));
    assert_eq!(same["verdict"], "within noise", "{same:#}");
    assert_eq!(
        (&same["above"], &same["differences"]),
        (&0.into(), &Value::Array(vec![]))
    );
    let output = run(&mut diff("more"));
    expect_code(&output, 1);
    let more: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let classes = more["classes"].as_array().expect("classes");
    let guest = classes
        .iter()
        .find(|row| row["class"] == "guest")
        .expect("guest");
    let count = &guest["count"];
    assert_eq!(
        (&count["base"], &count["new"]),
        (&1024.0.into(), &1200.0.into())
    );
    assert_eq!(count["verdict"], "higher");
    assert_eq!(more["differences"][0]["what"], "parameters");
}
