//! Bad input: a clear message, the right exit code, no files left. No root needed.

use std::{io, process::Command};

use crate::support::{analyzer, collector, expect_code, folder, run, stderr};

/// Arguments, exit code, and words that the message must hold.
const CASES: &[(&[&str], i32, &[&str])] = &[
    (
        &["run", "liner"],
        2,
        &[
            "no workload is called 'liner'",
            "did you mean 'linear'",
            "demand",
        ],
    ),
    (
        &["run", "linear", "--param", "pages=0"],
        2,
        &["'pages'", "'0'", "1 to 524288"],
    ),
    (
        &["run", "linear", "--param", "pages=524289"],
        2,
        &["1 to 524288"],
    ),
    (&["run", "linear", "--param", "pages=many"], 2, &["'many'"]),
    (
        &["run", "linear", "--param", "colour=red"],
        2,
        &["no parameter 'colour'", "pages, pattern"],
    ),
    (
        &["run", "linear", "--param", "pattern=zigzag"],
        2,
        &["sequential, stride, random"],
    ),
    (&["run", "linear", "--param", "pages"], 2, &["NAME=VALUE"]),
    (
        &["run", "linear", "-p", "pages=1", "-p", "pages=2"],
        2,
        &["pages", "'1'", "'2'"],
    ),
    (&["run", "linear", "--timeout", "0"], 2, &["above zero"]),
    (&["run", "linear", "--ring-mib", "3"], 2, &["power of two"]),
    (&["run"], 2, &["WORKLOAD"]),
    (&["attach"], 2, &["--pid", "--all"]),
    (&["attach", "--pid", "1", "--all"], 2, &["--pid", "--all"]),
    (&["attach", "--pid", "qemu"], 2, &["qemu"]),
    (&["attach", "--all", "--for", "0"], 2, &["above zero"]),
    (
        &["attach", "--all", "--ring-mib", "3"],
        2,
        &["power of two"],
    ),
    (&["series", "liner"], 2, &["did you mean 'linear'"]),
    (&["series", "linear:pages"], 2, &["NAME=VALUE"]),
    (
        &["series", "-o", "nowhere", "linear"],
        2,
        &["nowhere", "mkdir"],
    ),
    (
        &["run", "linear", "-o", "nowhere/x.trace"],
        2,
        &["nowhere/x.trace", "mkdir -p nowhere"],
    ),
    (&["series", "linear", "linear"], 2, &["given twice"]),
    (&["fly"], 2, &["fly"]),
    (&["workloads", "liner"], 2, &["did you mean 'linear'"]),
];

#[test]
fn bad_arguments_are_refused_with_what_is_allowed() {
    let folder = folder();
    for (args, code, words) in CASES {
        let output = run(collector().args(*args).current_dir(folder.path()));
        expect_code(&output, *code);
        for word in *words {
            assert!(
                stderr(&output).contains(word),
                "{args:?} should say {word:?}: {}",
                stderr(&output)
            );
        }
        assert!(output.stdout.is_empty());
    }
    let left = folder.path().read_dir().expect("readable").count();
    assert_eq!(left, 0, "no file is left");
}

#[test]
fn an_output_that_exists_is_kept() {
    let folder = folder();
    let mine = folder.path().join("mine");
    std::fs::write(&mine, "precious").expect("writable");
    let output = run(collector().args(["run", "linear", "-o"]).arg(&mine));
    expect_code(&output, 1);
    assert!(
        stderr(&output).contains("exists already"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        std::fs::read_to_string(&mine).expect("still there"),
        "precious"
    );
}

#[test]
fn the_catalogue_is_readable_and_machine_readable() {
    let text = run(collector().arg("workloads"));
    expect_code(&text, 0);
    for name in ["linear", "demand"] {
        assert!(String::from_utf8_lossy(&text.stdout).contains(name));
        let one = crate::support::json(&run(collector().args(["workloads", name, "--json"])));
        assert_eq!(one["name"], name);
        assert_eq!(one["params"][0]["name"], "pages");
    }
}

#[test]
fn doctor_says_the_same_to_people_and_programs() {
    let text = run(collector().arg("doctor"));
    let json = run(collector().args(["doctor", "--json"]));
    assert_eq!(text.status.code(), json.status.code());
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let able = report["able"].as_bool().expect("a verdict");
    expect_code(&json, if able { 0 } else { 3 });
    let text = String::from_utf8_lossy(&text.stdout);
    for finding in report["findings"].as_array().expect("findings") {
        let what = finding["what"].as_str().expect("a name");
        assert!(text.contains(what), "{what} is missing in:\n{text}");
    }
}

/// A terminal that was closed takes no word, and the exit code is the same.
#[test]
fn nobody_has_to_hear_what_is_said() {
    let code = |command: &mut Command| {
        let (read, write) = io::pipe().expect("a pipe");
        drop(read);
        let both = write.try_clone().expect("a copy");
        let status = command.stdout(write).stderr(both).status();
        status.expect("the program starts").code()
    };
    for (args, expected, _) in CASES {
        assert_eq!(code(collector().args(*args)), Some(*expected), "{args:?}");
    }
    assert_eq!(code(collector().args(["workloads"])), Some(0));
    assert_eq!(code(analyzer().args(["summary", "/nowhere"])), Some(2));
}
