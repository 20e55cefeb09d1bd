//! What finds no room in the ring is counted, marked, and mended by the next keyframe.

use serde_json::Value;

use crate::support::{analyzer, expect_code, folder, json, record, run};

/// Pages of the flooding guest.
const PAGES: u64 = 60_000;
const ENTRIES_PER_TABLE: u64 = 512;

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("a number, not {value}"))
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_ring_that_is_too_small_loses_what_it_says_it_lost() {
    let folder = folder();
    let pages = format!("pages={PAGES}");
    let small = ["--ring-kib", "32", "--keyframe-every", "0.2"];
    let args = [&["linear", "-p", &pages][..], &small].concat();
    let (trace, outcome) = record(&folder, &args);
    let lost = number(&outcome["recorded"]["lost"]);
    assert!(lost > 0, "{outcome}");

    // What was sent and did not arrive: numbers that no record carries, and KVM's own count.
    let verified = run(analyzer().arg("verify").arg(&trace).arg("--json"));
    expect_code(&verified, 1);
    let verified: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    let summary = json(&run(analyzer().arg("summary").arg(&trace).arg("--json")));
    assert_eq!(number(&summary["lost"]["records"]), lost);
    let keyframes = verified["vms"][0]["keyframes"]
        .as_array()
        .expect("keyframes");
    let last = keyframes
        .last()
        .map(|last| number(&last["seq"]))
        .expect("one at the end");
    let arrived = number(&outcome["recorded"]["records"]);
    assert_eq!(arrived + lost, last + 1, "every record has a number");
    assert!(
        verified["unvouched"]
            .as_array()
            .is_some_and(|spans| !spans.is_empty())
    );
    let taken = summary["vms"][0]["reconciliation"]
        .as_array()
        .expect("counters")
        .iter()
        .find(|counter| counter["counter"] == "pf_taken")
        .expect("the faults that KVM took");
    let faults_lost = number(&summary["lost"]["by_probe"]["fault"]);
    assert_eq!(number(&taken["trace"]) + faults_lost, number(&taken["kvm"]));

    // A keyframe mends the tables: the next one finds only what was lost in between.
    let drifted = |keyframe: &&Value| number(&keyframe["drift"]["entries"]) > 0;
    assert!(
        keyframes.iter().filter(drifted).count() > 1,
        "{keyframes:?}"
    );
    let found: u64 = keyframes
        .iter()
        .map(|keyframe| number(&keyframe["drift"]["entries"]))
        .sum();
    // A lost record is of one entry, but for a lost page: all of its entries are off.
    let pages = summary["lost"]["by_probe"]["page"].as_u64().unwrap_or(0);
    let most = lost + pages * (ENTRIES_PER_TABLE - 1);
    assert!(
        found <= most,
        "{found} entries off, {lost} records lost, {pages} of pages"
    );
}
