//! What `summary` and `verify` print.

use maker::Shape;

use super::demo::{Demo, two};

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
    let more = Demo::new(Shape {
        pages: 128,
        ..Shape::default()
    });
    let more = more.json(&["summary", "demo.trace", "--json"], 0);
    let more = &more["vms"][0]["classes"]["shadow"];
    for key in [
        "total_ns", "p5_ns", "p50_ns", "p95_ns", "p99_ns", "p99_seq", "max_ns", "max_seq",
    ] {
        assert!(more[key].as_u64().unwrap() > 0, "{key}");
        // Of 16 faults, a percentile would be that of the slowest or the fastest.
        let of_few = &vm["classes"]["shadow"][key];
        let is_rank = ["p5_ns", "p95_ns", "p99_ns", "p99_seq"].contains(&key);
        assert_eq!(of_few.is_null(), is_rank, "{key}: {of_few}");
        assert!(vm["classes"]["shadow"].get(key).is_some(), "{key}");
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
fn schema_lists_a_kind() {
    insta::assert_snapshot!(Demo::new(Shape::default()).text(&["schema", "entries"], 0));
}
