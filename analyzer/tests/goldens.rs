//! What each command prints on a small made-up trace, whose right answers are known.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and use small numbers"
)]

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use maker::{Maker, Shape, Vms};

/// A folder that is removed at the end, with `demo.trace` in it.
struct Demo(tempfile::TempDir);

impl Demo {
    fn new(shape: Shape) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Maker::new(shape)
            .write(&folder.path().join("demo.trace"))
            .unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("demo.trace").join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        analyzer(self.0.path(), args)
    }

    /// Standard output of a command that ends with `code`.
    fn text(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str], code: i32) -> serde_json::Value {
        serde_json::from_str(&self.text(args, code)).unwrap()
    }

    fn error(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn analyzer(folder: &Path, args: &[&str]) -> Output {
    // The name is in hints.
    Command::new(env!("CARGO_BIN_EXE_analyzer"))
        .arg0("analyzer")
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn summary_counts_and_times() {
    insta::assert_snapshot!(Demo::new(Shape::default()).text(&["summary", "demo.trace"], 0));
}

#[test]
fn summary_json_keeps_its_contract() {
    let summary = Demo::new(Shape::default()).json(&["summary", "demo.trace", "--json"], 0);
    assert_eq!(summary["lost"]["records"], 0);
    assert_eq!(summary["drift"]["entries"], 0);
    let vm = &summary["vms"][0];
    assert_eq!(vm["classes"]["shadow"]["count"], 16);
    for key in ["total_ns", "p50_ns", "p95_ns", "p99_ns"] {
        assert!(vm["classes"]["shadow"][key].as_u64().unwrap() > 0, "{key}");
    }
    assert_eq!(vm["drift"]["keyframes"], 1);
    assert_eq!(vm["drift"]["pages"], 0);
    assert_eq!(vm["lost"]["records"], 0);
    let first = &vm["reconciliation"][0];
    assert_eq!(
        (&first["counter"], &first["kvm"], &first["trace"]),
        (&"pf_taken".into(), &32.into(), &32.into())
    );
}

#[test]
fn summary_shows_everything_with_v() {
    insta::assert_snapshot!(two().text(&["summary", "demo.trace", "-v", "--vm", "0"], 0));
}

#[test]
fn tables_are_printed_as_markdown_and_csv() {
    let demo = two();
    let mut text = demo.text(
        &["summary", "demo.trace", "--vm", "1", "--format", "markdown"],
        0,
    );
    text += &demo.text(&["summary", "demo.trace", "--table", "phases"], 0);
    text += &demo.text(
        &[
            "summary",
            "demo.trace",
            "--table",
            "classes",
            "--format",
            "csv",
        ],
        0,
    );
    text += &demo.text(&["verify", "demo.trace", "--format", "csv", "--vm", "1"], 0);
    insta::assert_snapshot!(text);
    let json = demo.json(&["summary", "demo.trace", "--format", "json"], 0);
    assert_eq!(json, demo.json(&["summary", "demo.trace", "--json"], 0));
    let rows = demo.text(
        &["timeline", "demo.trace", "--format", "csv", "--vm", "0"],
        0,
    );
    assert_eq!(rows.lines().count(), 241, "a head and every bin");
}

/// The table of classes and the example must speak of the same fault.
#[test]
fn the_example_of_a_report_is_the_shadow_fault_of_median_time() {
    let demo = Demo::new(Shape {
        pages: 4000,
        ..Shape::default()
    });
    let page = demo.json(&["report", "demo.trace", "--json"], 0);
    let example = page["traces"][0]["sections"][0]["example"]
        .as_str()
        .unwrap();
    let summary = demo.json(&["summary", "demo.trace", "--json"], 0);
    let median = summary["vms"][0]["classes"]["shadow"]["p50_ns"]
        .as_u64()
        .unwrap();
    let took = format!("took {} ", analyzer::text::units::ns(median));
    assert!(example.contains(&took), "{took}: {example}");
}

#[test]
fn nothing_is_wider_than_the_terminal() {
    let two = two();
    for args in [
        ["summary", "demo.trace", "-v"].as_slice(),
        &["verify", "demo.trace"],
        &["audit", "demo.trace"],
        &["memory", "demo.trace"],
        &["timeline", "demo.trace", "--show", "levels"],
        &["timeline", "demo.trace", "--show", "causes"],
        &["schema"],
    ] {
        for line in two.text(args, 0).lines() {
            assert!(line.chars().count() <= 100, "{args:?}: {line}");
        }
    }
}

#[test]
fn verify_passes_an_exact_trace() {
    insta::assert_snapshot!(Demo::new(Shape::default()).text(&["verify", "demo.trace"], 0));
}

#[test]
fn verify_names_the_entry_that_drifted() {
    let demo = Demo::new(Shape {
        drift: Some(5),
        ..Shape::default()
    });
    let text = demo.text(&["verify", "demo.trace"], 1);
    insta::assert_snapshot!(text.lines().take(24).collect::<Vec<_>>().join("\n"));
}

/// The made-up host has no event for what the host itself does to an entry: no drift there.
#[test]
fn a_leaf_that_the_host_took_is_shown_as_seen_late() {
    let demo = Demo::new(Shape {
        late: Some(5),
        ..Shape::default()
    });
    let text = demo.text(&["verify", "demo.trace"], 0);
    insta::assert_snapshot!(text.lines().take(24).collect::<Vec<_>>().join("\n"));
    let summary = demo.text(&["summary", "demo.trace"], 0);
    assert!(
        summary.contains("Seen late, by a keyframe only: 1 change"),
        "{summary}"
    );
    let json = demo.json(&["verify", "demo.trace", "--json"], 0);
    let vm = &json["vms"][0];
    assert_eq!(
        (&json["exact"], &vm["drift"]["entries"]),
        (&true.into(), &0.into())
    );
    let late = &vm["drift"]["late"];
    assert_eq!(late["entries"], 1);
    assert_eq!(
        late["kinds"]["leaf_gone"]["writers"][0],
        "kvm_unmap_gfn_range"
    );
    let change = &vm["keyframes"][1]["late"][0];
    assert_eq!(
        (&change["late"], &change["after_seq"]),
        (&"leaf_gone".into(), &22.into())
    );
}

#[test]
fn verify_shows_where_a_record_was_lost() {
    let demo = Demo::new(Shape {
        lose: Some(3),
        ..Shape::default()
    });
    let text = demo.text(&["verify", "demo.trace"], 1);
    insta::assert_snapshot!(text.lines().take(24).collect::<Vec<_>>().join("\n"));
}

#[test]
fn explain_shows_the_five_steps() {
    insta::assert_snapshot!(
        Demo::new(Shape::default()).text(&["explain", "demo.trace", "--fault", "1"], 0)
    );
}

#[test]
fn explain_shows_the_guests_own_fault_as_such() {
    let args = ["explain", "demo.trace", "--class", "guest", "--nth", "2"];
    insta::assert_snapshot!(Demo::new(Shape::default()).text(&args, 0));
}

#[test]
fn table_shows_tree_ranges_and_translation() {
    let demo = Demo::new(Shape {
        pages: 600,
        ..Shape::default()
    });
    let mut text = demo.text(&["table", "demo.trace"], 0);
    text += &demo.text(&["table", "demo.trace", "--as", "ranges"], 0);
    text += &demo.text(&["table", "demo.trace", "--gva", "0x400000003abc"], 0);
    text += &demo.text(&["table", "demo.trace", "--fault", "3"], 0);
    text += &demo.text(&["table", "demo.trace", "--phase", "touch"], 0);
    insta::assert_snapshot!(text);
}

#[test]
fn table_shows_what_changed_between_two_moments() {
    let demo = Demo::new(Shape {
        pages: 4,
        passes: 2,
        ..Shape::default()
    });
    insta::assert_snapshot!(demo.text(&["table", "demo.trace", "--diff", "30us", "end"], 0));
}

#[test]
fn timeline_follows_the_tables() {
    insta::assert_snapshot!(
        Demo::new(Shape::default()).text(&["timeline", "demo.trace", "--lines", "6"], 0)
    );
}

/// Two VMs of one process, found running.
fn two() -> Demo {
    Demo::new(Shape {
        vms: Vms::Attached,
        ..Shape::default()
    })
}

#[test]
fn two_vms_are_summed_up_apart() {
    insta::assert_snapshot!(two().text(&["summary", "demo.trace"], 0));
}

#[test]
fn two_vms_are_verified_apart() {
    insta::assert_snapshot!(two().text(&["verify", "demo.trace"], 0));
}

#[test]
fn two_vms_have_a_timeline_each() {
    insta::assert_snapshot!(two().text(&["timeline", "demo.trace", "--lines", "6"], 0));
}

#[test]
fn one_of_two_vms_must_be_chosen_for_a_table() {
    let demo = two();
    let mut text = String::new();
    for args in [
        vec!["table", "demo.trace"],
        vec!["explain", "demo.trace", "--fault", "0"],
        vec!["table", "demo.trace", "--vm", "2"],
        vec!["summary", "demo.trace", "--vm", "2"],
        vec!["report", "demo.trace", "--vm", "2"],
    ] {
        text += &format!("$ {}\n{}\n", args.join(" "), demo.error(&args, 2));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_table_below_a_pae_root_is_shown() {
    let demo = two();
    let mut text = demo.text(&["table", "demo.trace", "--vm", "1"], 0);
    text += &demo.text(&["table", "demo.trace", "--vm", "1", "--as", "ranges"], 0);
    let gva = ["table", "demo.trace", "--vm", "1", "--gva", "0x100b123"];
    text += &demo.text(&gva, 0);
    text += &demo.text(&["table", "demo.trace", "--vm", "1", "--at", "1us"], 0);
    text += &demo.text(&["explain", "demo.trace", "--vm", "1", "--fault", "1"], 0);
    insta::assert_snapshot!(text);
}

#[test]
fn a_store_to_a_protected_table_is_explained_with_what_it_cleared() {
    let args = [
        "explain",
        "demo.trace",
        "--vm",
        "0",
        "--class",
        "write_protected",
    ];
    insta::assert_snapshot!(two().text(&args, 0));
}

#[test]
fn a_fault_after_a_store_and_one_after_the_hosts_unmap_say_so() {
    let demo = two();
    let gva = [
        "explain",
        "demo.trace",
        "--vm",
        "0",
        "--gva",
        "0x400000000000",
    ];
    let mut text = demo.text(&[gva.as_slice(), &["--nth", "1"]].concat(), 0);
    text += &demo.text(&[gva.as_slice(), &["--nth", "3"]].concat(), 0);
    insta::assert_snapshot!(text);
}

/// Every page faults again in the second pass, since KVM zapped the leaf tables in between.
#[test]
fn refaults_name_what_removed_the_entries() {
    let shape = Shape {
        passes: 2,
        ..Shape::default()
    };
    let demo = Demo::new(shape);
    let mut text = demo.text(&["refaults", "demo.trace", "--top", "2"], 0);
    text += &demo.text(&["refaults", "demo.trace", "--window", "0"], 0);
    // The record of a page in the first pass.
    let lost = Demo::new(Shape {
        lose: Some(3),
        ..shape
    });
    text += &lost.text(&["refaults", "demo.trace"], 0);
    insta::assert_snapshot!(text);
}

#[test]
fn a_vm_alone_is_as_it_is_among_others() {
    let demo = Demo::new(Shape {
        vms: Vms::Attached,
        lose: Some(12),
        ..Shape::default()
    });
    for (command, code) in [
        ("summary", 0),
        ("verify", 1),
        ("timeline", 0),
        ("refaults", 0),
    ] {
        let all = demo.json(&[command, "demo.trace", "--json"], code);
        assert_eq!(all["vms"].as_array().unwrap().len(), 2);
        for vm in ["0", "1"] {
            let args = [command, "demo.trace", "--json", "--vm", vm];
            let alone = demo.json(&args, code);
            assert_eq!(alone["vms"].as_array().unwrap().len(), 1);
            let number: usize = vm.parse().unwrap();
            assert_eq!(alone["vms"][0], all["vms"][number], "{command} --vm {vm}");
        }
    }
    // The lost record was the first VM's, but the trace does not say so.
    for args in [
        ["summary", "demo.trace", "--vm", "1"].as_slice(),
        &["timeline", "demo.trace", "--vm", "1"],
        &["table", "demo.trace", "--vm", "1", "--fault", "2"],
        &["explain", "demo.trace", "--vm", "1", "--fault", "2"],
    ] {
        let text = demo.text(args, 0);
        assert!(text.contains("1 record"), "{args:?}: {text}");
    }
}

#[test]
fn a_vm_without_counters_at_the_end_is_named() {
    let demo = two();
    let file = demo.file("meta.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut meta: serde_json::Value = serde_json::from_str(&text).unwrap();
    meta["vms"][1]["counters_after"] = serde_json::Value::Null;
    std::fs::write(&file, meta.to_string()).unwrap();
    let text = demo.text(&["verify", "demo.trace"], 1);
    assert!(
        text.starts_with("not exact: VM 1: no counters of KVM to reconcile with\n"),
        "{text}"
    );
    demo.text(&["verify", "demo.trace", "--vm", "0"], 0);
}

#[test]
fn a_report_has_a_part_for_each_vm() {
    let demo = two();
    demo.text(&["report", "demo.trace", "-o", "page.html"], 0);
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert_eq!(html.matches("<section id=").count(), 2);
    assert_eq!(html.matches("<svg").count(), 12);
    assert!(html.contains("VM 1 (made-up, pid 4711, vCPU 0): "));
    demo.text(&["report", "demo.trace", "--vm", "1", "-o", "page.html"], 0);
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert_eq!(html.matches("<section id=").count(), 1);
    assert!(!html.contains("VM 0 (pid"));
}

#[test]
fn schema_lists_a_kind() {
    insta::assert_snapshot!(Demo::new(Shape::default()).text(&["schema", "entries"], 0));
}

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

/// Two VMs, one of which stores to its tables.
#[test]
fn top_adds_faults_up_by_each_key() {
    let demo = two();
    let mut text = String::new();
    for by in [
        "cr3",
        "rip",
        "symbol",
        "gva-range",
        "slot",
        "guest-table",
        "shadow-page",
        "vcpu",
        "cause",
    ] {
        let args = ["top", "demo.trace", "--by", by, "--vm", "0", "--top", "3"];
        text += &format!("$ {}\n{}\n", args.join(" "), demo.text(&args, 0));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn top_counts_each_fault_that_the_filter_admits_once() {
    let demo = two();
    let faults = |args: &[&str]| {
        let args = [&["top", "demo.trace", "--json", "--by"], args].concat();
        let top = demo.json(&args, 0);
        let vm = &top["vms"][0];
        let sum: u64 = vm["payers"]
            .as_array()
            .unwrap()
            .iter()
            .chain([&vm["without_key"], &vm["others"]])
            .map(|of| of["count"].as_u64().unwrap())
            .sum();
        assert_eq!(vm["all"]["count"], sum, "{args:?}");
        sum
    };
    let summary = demo.json(&["summary", "demo.trace", "--json"], 0);
    let all = summary["vms"][0]["faults"].as_u64().unwrap();
    let keys = [
        "cr3",
        "rip",
        "symbol",
        "gva-range",
        "slot",
        "shadow-page",
        "vcpu",
    ];
    for by in keys {
        assert_eq!(faults(&[by]), all, "{by}");
    }
    let guest = &summary["vms"][0]["classes"]["guest"]["count"];
    assert_eq!(
        faults(&["cr3", "--class", "guest"]),
        guest.as_u64().unwrap()
    );
    let halves = ["--to", "--from"].map(|edge| faults(&["cr3", edge, "fault:9"]));
    assert_eq!(halves, [10, all - 9]);
    assert_eq!(faults(&["vcpu", "--vcpu", "7"]), 0);
    let none = faults(&["gva-range", "--granule", "4K", "--gva", "0x1000..0x2000"]);
    assert_eq!(none, 0);
}

#[test]
fn faults_and_changes_are_listed_with_their_numbers() {
    let demo = two();
    let mut text = String::new();
    for args in [
        &["faults", "--top", "3"][..],
        &["faults", "--sort", "seq", "--top", "2", "--class", "shadow"],
        &["faults", "--gva", "0x400000000000", "--to", "fault:9"],
        &["changes", "--top", "3"],
        &["changes", "--cause", "host_unmap,guest_write"],
        &["changes", "--gva", "0x400000003000"],
        &["find", "--gva", "0x400000000000"],
        &["find", "--gfn", "0x1003"],
        &["find", "--hpa", "0x123000"],
    ] {
        let args = [&args[..1], &["demo.trace", "--vm", "0"], &args[1..]].concat();
        text += &format!("$ {}\n{}\n", args.join(" "), demo.text(&args, 0));
    }
    for args in [
        &["faults", "--from", "phase:lunch"][..],
        &["faults", "--gva", "0x2000..0x1000"],
        &["changes", "--to", "fault:99"],
        &["find"],
        &["top", "--by", "cause", "--class", "guest"],
        &["top", "--by", "cr3", "--granule", "2M"],
    ] {
        let args = [&args[..1], &["demo.trace", "--vm", "0"], &args[1..]].concat();
        text += &format!("$ {}\n{}\n", args.join(" "), demo.error(&args, 2));
    }
    insta::assert_snapshot!(text);
}

/// The number that a list gives is the one that `explain` takes.
#[test]
fn explain_takes_the_numbers_of_the_lists() {
    let demo = two();
    let list = |command: &str| {
        let args = [command, "demo.trace", "--vm", "0", "--json"];
        demo.json(&args, 0)["vms"][0][command].clone()
    };
    let explain = |args: [&str; 2]| {
        let args = [&["explain", "demo.trace", "--vm", "0"], &args[..]].concat();
        demo.text(&args, 0)
    };
    for (command, number) in [("faults", "fault"), ("changes", "change")] {
        for listed in list(command).as_array().unwrap() {
            let (seq, nth) = (listed["seq"].to_string(), listed[number].to_string());
            let by_number = explain([&format!("--{number}"), &nth]);
            assert_eq!(explain(["--seq", &seq]), by_number, "{listed}");
        }
    }
}

#[test]
fn symbols_name_functions_or_the_error_says_why_not() {
    let demo = Demo::new(Shape::default());
    let write = |name: &str, text: &str| std::fs::write(demo.0.path().join(name), text).unwrap();
    write(
        "nm",
        "0000000000400000 0000000000002000 t _ZN4work5touch17h0123456789abcdefE\n",
    );
    write(
        "hidden",
        "0000000000000000 T _text\n0000000000000000 t work\n",
    );
    write(
        "stub",
        "ffffffffffffffff B The real System.map is in the linux-image-dbg package\n",
    );
    write("words", "hello, world\n");
    write("gz", "\u{1f}");
    std::fs::write(demo.0.path().join("gz"), b"\x1f\x8b\x08").unwrap();
    std::fs::write(demo.0.path().join("elf"), b"\x7fELF\x02\x01\x01").unwrap();
    let by = ["top", "demo.trace", "--by", "symbol", "--symbols"];
    let mut text = demo.text(&[&by[..], &["nm"]].concat(), 0);
    // Where the trace brings its own.
    std::fs::copy(demo.0.path().join("nm"), demo.file("symbols.txt")).unwrap();
    assert_eq!(demo.text(&by[..4], 0), text);
    text += &demo.text(&["top", "demo.trace", "--by", "rip"], 0);
    // A list of the trace's own must be a file in it.
    std::fs::remove_file(demo.file("symbols.txt")).unwrap();
    std::os::unix::fs::symlink("../nm", demo.file("symbols.txt")).unwrap();
    let error = demo.error(&by[..4], 1);
    assert!(error.contains("symbols.txt"), "{error}");
    std::fs::remove_file(demo.file("symbols.txt")).unwrap();
    for file in ["hidden", "stub", "words", "gz", "elf", "nowhere"] {
        let error = demo.error(&[&by[..], &[file]].concat(), 2);
        text += &format!("$ --symbols {file}\n{error}\n");
    }
    insta::assert_snapshot!(text);
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
fn a_later_schema_is_refused() {
    let demo = Demo::new(Shape::default());
    let file = demo.file("meta.json");
    let text =
        std::fs::read_to_string(&file)
            .unwrap()
            .replacen("\"schema\": 1", "\"schema\": 99", 1);
    std::fs::write(&file, text).unwrap();
    assert!(
        demo.error(&["summary", "demo.trace"], 1)
            .contains("newer analyzer")
    );
}

#[test]
fn a_report_holds_every_figure_and_no_address_of_the_network() {
    let demo = Demo::new(Shape {
        pages: 64,
        passes: 2,
        ..Shape::default()
    });
    demo.text(
        &["report", "demo.trace", "demo.trace", "-o", "page.html"],
        0,
    );
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert_eq!(html.matches("<svg").count(), 12);
    assert!(!html.contains("<script"));
    // The SVG namespace is a name, not an address.
    let addresses = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!addresses.contains("http:") && !addresses.contains("https:"));
}

#[test]
fn names_in_a_trace_cannot_write_html() {
    let demo = Demo::new(Shape::default());
    let file = demo.file("meta.json");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("made-up", "<script>alert(1)</script>\\u001b[31m");
    std::fs::write(&file, text).unwrap();
    demo.text(&["report", "demo.trace", "-o", "page.html"], 0);
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert!(!html.contains("<script") && !html.contains('\u{1b}'));
    assert!(!demo.text(&["summary", "demo.trace"], 0).contains('\u{1b}'));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let demo = Demo::new(Shape {
        pages: 3000,
        ..Shape::default()
    });
    let mut child = Command::new(env!("CARGO_BIN_EXE_analyzer"))
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
    let output = Command::new(env!("CARGO_BIN_EXE_analyzer"))
        .arg0("shadowscope-analyzer")
        .current_dir(empty.path())
        .args(["summary", "demo.trace"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let command = "`shadowscope-collector run WORKLOAD`";
    assert!(error.contains(command), "{error}");
}
