//! Paths that are no traces.

use std::fs;

use crate::support::{analyzer, expect_code, folder, refused, run, stderr};

#[test]
fn what_is_no_trace_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("notes.txt"), "hello").expect("writable");
    refused(folder.path(), &["not a trace"]);
}

/// Most likely a mistyped name, so it is a usage error.
#[test]
fn a_path_that_does_not_exist_is_refused() {
    let folder = folder();
    for command in ["summary", "verify"] {
        let output = run(analyzer().arg(command).arg(folder.path().join("nowhere")));
        expect_code(&output, 2);
        let message = stderr(&output);
        assert!(message.contains("nowhere"), "{message}");
    }
}
