//! Damaged traces, wrong command lines, and output that programs and shells read.

use std::os::unix::process::CommandExt as _;

use maker::Shape;

use super::demo::Demo;
use crate::support::analyzer;

#[test]
fn a_cut_trace_is_named_first_and_still_shown() {
    let demo = Demo::new(Shape {
        cut: true,
        segment: 20,
        ..Shape::default()
    });
    assert!(
        demo.text(&["summary", "demo.trace"], 0)
            .starts_with("CUT: ")
    );
    assert!(demo.text(&["verify", "demo.trace"], 1).starts_with("CUT: "));
    assert!(demo.text(&["table", "demo.trace"], 0).starts_with("CUT: "));
    assert!(
        demo.text(&["explain", "demo.trace", "--fault", "1"], 0)
            .starts_with("CUT: ")
    );
    assert_eq!(
        demo.json(&["verify", "demo.trace", "--json"], 1)["complete"],
        false
    );
}

/// What `kill -9` leaves of a file that was being written is named, and read by nobody.
#[test]
fn a_file_that_a_killed_recorder_left_is_named() {
    let demo = Demo::new(Shape {
        cut: true,
        segment: 20,
        ..Shape::default()
    });
    let before = demo.text(&["summary", "demo.trace"], 0);
    let last = demo.last_segment();
    let hidden = last.with_file_name(format!(
        ".{}.tmp",
        last.file_name().unwrap().to_string_lossy()
    ));
    std::fs::rename(&last, hidden).unwrap();
    std::fs::write(demo.file(".meta.json.tmp"), "{").unwrap();
    let after = demo.text(&["summary", "demo.trace"], 0);
    let words = after.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!before.contains("it left"), "{before}");
    let left = "it left demo.trace/.meta.json.tmp and 1 more";
    assert!(words.contains(left), "{after}");
    assert!(words.contains("announced and not written"), "{after}");
}

#[test]
fn a_damaged_segment_is_named_and_what_is_before_it_shown() {
    let demo = Demo::new(Shape {
        pages: 40,
        segment: 20,
        ..Shape::default()
    });
    let file = demo.file("faults/000004.parquet");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    let summary = demo.text(&["summary", "demo.trace"], 1);
    assert!(summary.starts_with("DAMAGED: "), "{summary}");
    assert!(summary.contains("shadow"), "{summary}");
    for command in ["verify", "audit", "memory"] {
        demo.text(&[command, "demo.trace"], 1);
    }
    assert!(
        demo.error(&["explain", "demo.trace", "--fault", "79"], 1)
            .contains("checksum")
    );
}

#[test]
fn errors_say_what_there_is() {
    let demo = Demo::new(Shape::default());
    let mut text = String::new();
    for (args, code) in [
        (vec!["explain", "demo.trace", "--fault", "99"], 2),
        (vec!["explain", "demo.trace", "--class", "shadows"], 2),
        (vec!["summary", "demmo.trace"], 2),
        (vec!["summary", "folder/nowhere.trace"], 2),
        (vec!["report", "-o", "x.html", "lunch"], 2),
        (vec!["summary", "demo.trace", "--table", "lunch"], 2),
        (vec!["table", "demo.trace", "--gva", "400000000000"], 2),
        (vec!["report", "demo.trace", "--json", "-o", "x.html"], 2),
        (vec!["summary", "demo.trace", "--vm", "7"], 2),
        (vec!["table", "demo.trace", "--at", "9s"], 2),
        (vec!["table", "demo.trace", "--phase", "lunch"], 2),
        (vec!["table", "demo.trace", "--seq", "9999"], 2),
        (
            vec![
                "table",
                "demo.trace",
                "--diff",
                "30us",
                "end",
                "--as",
                "tree",
            ],
            2,
        ),
        (
            vec![
                "table",
                "demo.trace",
                "--diff",
                "30us",
                "end",
                "--gva",
                "0x1000",
            ],
            2,
        ),
        (vec!["explain", "demo.trace", "--cause", "dirty_log"], 2),
        (vec!["schema", "lunch"], 2),
    ] {
        text += &format!("$ {}\n{}\n", args.join(" "), demo.error(&args, code));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_schema_of_a_later_program_or_of_none_is_refused() {
    let demo = Demo::new(Shape::default());
    let file = demo.file("meta.json");
    let text = std::fs::read_to_string(&file).unwrap();
    for (schema, words) in [("99", "newer analyzer"), ("0", "which no program writes")] {
        let text = text.replacen("\"schema\": 1", &format!("\"schema\": {schema}"), 1);
        std::fs::write(&file, text).unwrap();
        let error = demo.error(&["summary", "demo.trace"], 1);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let demo = Demo::new(Shape {
        pages: 3000,
        ..Shape::default()
    });
    let mut child = analyzer()
        .current_dir(demo.0.path())
        .args(["table", "demo.trace", "--as", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

/// JSON readers that keep numbers as doubles round those above 2^53.
#[test]
fn addresses_and_entries_are_strings_in_every_json() {
    let demo = Demo::new(Shape {
        drift: Some(5),
        ..Shape::default()
    });
    for (args, code) in [
        (&["summary"][..], 0),
        (&["verify"], 1),
        (&["report"], 0),
        (&["timeline"], 0),
        (&["audit"], 0),
        (&["memory"], 0),
        (&["refaults"], 0),
        (&["pathologies"], 0),
        (&["explain", "--class", "shadow"], 0),
        (&["explain", "--cause", "link"], 0),
        (&["table"], 0),
        (&["table", "--gva", "0x400000003abc"], 0),
        (&["table", "--diff", "30us", "end"], 0),
        (&["top", "--by", "gva-range"], 0),
        (&["top", "--by", "shadow-page"], 0),
        (&["faults"], 0),
        (&["changes"], 0),
        (&["find", "--gva", "0x400000003abc"], 0),
    ] {
        let args = [&args[..1], &["demo.trace", "--json"], &args[1..]].concat();
        no_address_is_a_number(&demo.json(&args, code), &args);
    }
}

/// The addresses and entries of the made-up trace are above 2^32, its times and counts below.
fn no_address_is_a_number(value: &serde_json::Value, args: &[&str]) {
    use serde_json::Value;
    match value {
        Value::Number(number) => {
            assert!(
                number.as_f64() < Some(f64::from(u32::MAX)),
                "{args:?}: {number}"
            );
        }
        Value::Array(values) => values
            .iter()
            .for_each(|of| no_address_is_a_number(of, args)),
        Value::Object(map) => map.values().for_each(|of| no_address_is_a_number(of, args)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn hints_can_be_copied_to_a_shell() {
    let demo = Demo::new(Shape::default());
    let folder = demo.0.path();
    std::fs::rename(folder.join("demo.trace"), folder.join("my demo.trace")).unwrap();
    let error = demo.error(&["explain", "my demo.trace", "--fault", "99"], 2);
    let command = "`analyzer explain 'my demo.trace' --class shadow`";
    assert!(error.contains(command), "{error}");

    let empty = tempfile::tempdir().unwrap();
    let output = analyzer()
        .arg0("shadowscope-analyzer")
        .current_dir(empty.path())
        .args(["summary", "demo.trace"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let command = "`shadowscope-collector run WORKLOAD`";
    assert!(error.contains(command), "{error}");
}

/// Nothing is printed in no words.
#[test]
fn a_trace_of_no_vm_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut meta = trace::Meta {
        schema: trace::SCHEMA_VERSION,
        ..trace::Meta::default()
    };
    let path = folder.path().join("none.trace");
    let writer = trace::TraceWriter::create(&path, &meta).unwrap();
    meta.complete = true;
    meta.end = Some(trace::End::default());
    writer.meta_file().write(&meta).unwrap();
    let commands: [(&[&str], i32); 12] = [
        (&["summary"], 0),
        (&["refaults"], 0),
        (&["pathologies"], 0),
        (&["memory"], 0),
        (&["timeline"], 0),
        (&["top", "--by", "cr3"], 0),
        (&["faults"], 0),
        (&["changes"], 0),
        (&["find", "--gva", "0x1000"], 0),
        (&["export", "--to", "csv", "-o", "x.csv"], 0),
        (&["audit"], 1),
        (&["verify"], 1),
    ];
    for (command, code) in commands {
        let [name, others @ ..] = command else {
            continue;
        };
        let args = [&[*name, "none.trace"], others].concat();
        let output = super::demo::run(folder.path(), &args);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains("no VM was seen"), "{args:?}: {said}");
    }
}
