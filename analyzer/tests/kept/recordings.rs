//! What the analyzer says of recordings that the collector really made: `recordings/*`, each with
//! its `.origin` file. A change of schema must keep them readable.

use crate::support::{analyzer, recording};

/// Standard output of a command that ends well.
fn say(args: &[&str], name: &str) -> String {
    let output = analyzer()
        .current_dir(recording(""))
        .args([args[0], name])
        .args(&args[1..])
        .output()
        .expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn demand_is_summed_up() {
    insta::assert_snapshot!(say(&["summary"], "demand"));
}

#[test]
fn demand_is_exact() {
    insta::assert_snapshot!(say(&["verify"], "demand"));
}

#[test]
fn acts_and_the_guests_clock_are_summed_up() {
    insta::assert_snapshot!(say(&["summary"], "sync-lab"));
}

#[test]
fn an_act_is_explained() {
    insta::assert_snapshot!(say(&["explain", "--seq", "98"], "sync-lab"));
}

#[test]
fn a_fault_of_the_guest_is_explained() {
    insta::assert_snapshot!(say(
        &["explain", "--class", "guest", "--nth", "100"],
        "demand"
    ));
}

#[test]
fn a_shadow_fault_is_explained() {
    insta::assert_snapshot!(say(
        &["explain", "--class", "shadow", "--nth", "100"],
        "demand"
    ));
}

#[test]
fn the_first_fault_of_a_table_is_explained_with_its_links() {
    insta::assert_snapshot!(say(
        &["explain", "--gva", "0x8000000000", "--nth", "1"],
        "demand"
    ));
}

#[test]
fn an_address_is_translated_before_and_after_its_fault() {
    let gva = "0x8000001000";
    insta::assert_snapshot!(say(&["table", "--phase", "touch", "--gva", gva], "demand"));
    insta::assert_snapshot!(say(&["table", "--at", "end", "--gva", gva], "demand"));
}

#[test]
fn tables_are_shown_as_tree_and_ranges() {
    let mut text = say(&["table", "--at", "fault:700"], "lab");
    text += &say(&["table", "--at", "0.3s", "--as", "ranges"], "lab");
    text += &say(
        &["table", "--seq", "1000", "--gva", "0x8000001000"],
        "keyframes",
    );
    insta::assert_snapshot!(text);
}

#[test]
fn what_changed_between_two_moments_has_causes() {
    let text = say(&["table", "--diff", "phase:touch", "end"], "lab");
    insta::assert_snapshot!(text.lines().take(30).collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_change_is_in_the_total() {
    for (name, from) in [
        ("lab", "phase:touch"),
        ("unsync", "0s"),
        ("demand", "seq:100"),
    ] {
        let text = say(&["table", "--diff", from, "end"], name);
        let total = text.lines().last().expect("a total");
        let words: Vec<_> = total.split_whitespace().collect();
        let entries = words.last().expect("a number").replace(',', "");
        let json = say(&["table", "--diff", from, "end", "--json"], name);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let changes = json["changes"].as_array().expect("changes");
        assert_eq!(words.first(), Some(&"total"), "{name}");
        assert_eq!(entries, changes.len().to_string(), "{name}");
        // Sorted by address, those that no root reaches last.
        let gva = |change: &serde_json::Value| {
            let gva = change["gva"].as_str();
            gva.map_or(u64::MAX, |gva| {
                u64::from_str_radix(gva.trim_start_matches("0x"), 16).expect("an address")
            })
        };
        assert!(changes.is_sorted_by_key(gva), "{name}");
    }
}

/// `keyframes` was recorded by version 0.1: its metadata does not state what it sees, and its
/// keyframes have no roots.
#[test]
fn a_trace_of_version_0_1_stays_readable() {
    let meta = std::fs::read_to_string(recording("keyframes").join("meta.json")).expect("metadata");
    assert!(!meta.contains("\"sees\""), "recorded by a later version");
    assert!(say(&["verify"], "keyframes").contains("exact: 0 entries drifted"));
    let mut text = say(&["table", "--at", "seq:700", "--as", "ranges"], "keyframes");
    text += &say(&["explain", "--class", "shadow", "--nth", "5"], "keyframes");
    insta::assert_snapshot!(text);
}

#[test]
fn a_timeline_shows_faults_levels_and_causes() {
    let mut text = String::new();
    for show in ["faults", "levels", "causes"] {
        text += &say(&["timeline", "--lines", "8", "--show", show], "lab");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_report_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html");
    say(
        &["report", "-o", page.to_str().expect("a plain name")],
        "demand",
    );
    let html = std::fs::read_to_string(page).expect("the report");
    assert!(html.matches("<svg").count() >= 5, "figures are inside");
    assert!(html.contains("exact: 0 entries drifted"));
}
