//! Folders that are no traces.

use std::fs;

use crate::support::{folder, refused};

#[test]
fn what_is_no_trace_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("notes.txt"), "hello").expect("writable");
    refused(folder.path(), &["not a trace"]);
    refused(&folder.path().join("nowhere"), &["nowhere"]);
}
