//! `explain` on recordings that the collector made: each class of fault and each cause of a change
//! that they have, shadow pages, and other records.

use std::{collections::BTreeSet, process::Output};

use analyzer::explain::{Explanation, Selector, find};
use events::{Cause, Class, Hpa, PageEvent, Seq, VmId};
use serde_json::Value;
use trace::Trace;

use crate::support::{analyzer, recording};

/// Name of the golden, recording, arguments.
const CASES: &[(&str, &str, &[&str])] = &[
    ("class_guest", "loads-lab", &["--class", "guest"]),
    ("class_shadow_missing", "loads", &["--class", "shadow"]),
    (
        "class_shadow_reread",
        "loads",
        &["--class", "shadow", "--nth", "60"],
    ),
    ("class_shadow_weak", "boot-lab", &["--fault", "270"]),
    (
        "class_write_protected",
        "boot-lab",
        &["--class", "write_protected", "--nth", "3"],
    ),
    ("class_unsync", "boot-lab", &["--class", "unsync"]),
    ("class_mmio_first", "boot-lab", &["--class", "mmio"]),
    (
        "class_mmio_again",
        "boot-lab",
        &["--class", "mmio", "--nth", "5"],
    ),
    ("class_spurious", "boot-lab", &["--class", "spurious"]),
    (
        "class_retried_no_function_probes",
        "loads",
        &["--class", "retried"],
    ),
    ("class_retried", "loads-lab", &["--class", "retried"]),
    ("cause_link", "loads-lab", &["--cause", "link"]),
    (
        "cause_link_again",
        "boot-lab",
        &["--cause", "link", "--nth", "50"],
    ),
    (
        "cause_prefetch",
        "boot-lab",
        &["--cause", "prefetch", "--nth", "700"],
    ),
    ("cause_reread", "loads", &["--cause", "reread"]),
    ("cause_sync", "boot-lab", &["--cause", "sync"]),
    ("cause_invlpg", "boot-lab", &["--cause", "invlpg"]),
    (
        "cause_host_unmap",
        "loads-lab",
        &["--cause", "host_unmap", "--nth", "5"],
    ),
    (
        "cause_write_protect",
        "boot-lab",
        &["--cause", "write_protect", "--nth", "2"],
    ),
    ("cause_fault", "boot-lab", &["--cause", "fault"]),
    ("cause_mmio", "boot-lab", &["--cause", "mmio"]),
    ("class_unsync_synced", "unsync", &["--class", "unsync"]),
    (
        "class_unsync_again",
        "unsync",
        &["--class", "unsync", "--nth", "2"],
    ),
    (
        "class_write_protected_clears",
        "flood-lab",
        &["--fault", "93"],
    ),
    (
        "class_write_protected_floods",
        "flood-lab",
        &["--fault", "95"],
    ),
    (
        "cause_sync_drops",
        "unsync",
        &["--cause", "sync", "--nth", "3"],
    ),
    (
        "cause_guest_write",
        "flood-lab",
        &["--cause", "guest_write"],
    ),
    ("seq_store_floods", "flood-lab", &["--seq", "191"]),
    ("page_flooded", "flood-lab", &["--seq", "192"]),
    (
        "cause_dirty_log",
        "dirty-lab",
        &["--cause", "dirty_log", "--nth", "1"],
    ),
    ("class_shadow_dirty_log", "dirty-lab", &["--fault", "77"]),
    ("seq_host_dirty_log", "dirty-lab", &["--seq", "136"]),
    (
        "cause_fault_recycles",
        "alias-lab",
        &["--cause", "fault", "--nth", "700"],
    ),
    ("page_unsync", "unsync", &["--seq", "67"]),
];

/// Too large to explain each of their records.
const LARGE: [&str; 2] = ["boot-lab", "alias-lab"];
const RECORDINGS: [&str; 7] = [
    "loads",
    "loads-lab",
    "boot-lab",
    "unsync",
    "flood-lab",
    "dirty-lab",
    "alias-lab",
];

fn run(name: &str, args: &[&str]) -> Output {
    analyzer()
        .current_dir(recording(""))
        .args(["explain", name])
        .args(args)
        .output()
        .expect("the program starts")
}

/// Standard output of `explain`.
fn stdout(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

fn open(name: &str) -> Trace {
    Trace::open(&recording(name)).expect("a recording")
}

fn explain(trace: &Trace, selector: Selector) -> Explanation {
    find(trace, VmId(0), selector, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

fn json(trace: &Trace, selector: Selector) -> Value {
    explain(trace, selector).json().expect("JSON")
}

#[test]
fn each_class_and_each_cause_is_explained() {
    for (name, recording, args) in CASES {
        insta::assert_snapshot!(*name, stdout(recording, args));
    }
}

/// Words, whatever the line breaks between them.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The sentences of a JSON value.
fn sentences(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Array(values) => values.iter().for_each(|of| sentences(of, found)),
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("text" | "clause" | "detail" | "function", Value::String(text)) => {
                        found.push(words(text));
                    }
                    ("changed", Value::Array(lines)) if lines.iter().all(Value::is_string) => {
                        found.extend(lines.iter().filter_map(Value::as_str).map(words));
                    }
                    _ => sentences(value, found),
                }
            }
        }
        _ => {}
    }
}

/// What the text gives as a cause, by its place in the JSON: at least one of each kind.
const CAUSES: &[(&str, &str, &str)] = &[
    ("class_guest", "/cause/kind", "injected"),
    ("class_guest", "/guest_refusal/kind", "not_present"),
    ("class_shadow_missing", "/cause/kind", "tables_missing"),
    ("class_shadow_reread", "/cause/kind", "entry_found_empty"),
    ("class_shadow_reread", "/emptied/cause", "reread"),
    ("class_shadow_weak", "/cause/kind", "write_left_out"),
    ("class_shadow_weak", "/stored_before/cause", "prefetch"),
    (
        "class_shadow_dirty_log",
        "/cause/kind",
        "write_removed_by_dirty_log",
    ),
    ("class_write_protected", "/cause/kind", "upper_table"),
    (
        "class_write_protected_clears",
        "/store/cleared/0/cause",
        "guest_write",
    ),
    (
        "class_write_protected_floods",
        "/pages/0/zapped_by/write_flooding/store_seq",
        "191",
    ),
    ("class_unsync", "/cause/kind", "became_unsync"),
    ("class_unsync", "/unsync/0/synced/seq", "3162"),
    ("class_unsync", "/unsync/0/changed_by_invlpg", "25"),
    ("class_unsync_synced", "/unsync/0/changed/1/cause", "sync"),
    ("class_mmio_first", "/cause/kind", "no_memslot"),
    ("class_mmio_again", "/cause/kind", "mmio_marker"),
    ("class_spurious", "/cause/kind", "already_allowed"),
    ("class_retried", "/cause/kind", "host_changed"),
    ("class_retried", "/host/event", "unmap"),
    (
        "class_retried_no_function_probes",
        "/cause/kind",
        "frame_unmapped",
    ),
    ("cause_link", "/causes/0/kind", "within_fault"),
    ("cause_prefetch", "/causes/0/kind", "prefetched"),
    ("cause_reread", "/causes/0/kind", "read_after_retry"),
    ("cause_sync", "/causes/0/kind", "table_synced"),
    ("cause_sync_drops", "/causes/0/kind", "same_cr3"),
    ("cause_sync_drops", "/unsync/synced/seq", "101"),
    ("cause_invlpg", "/causes/0/kind", "guest_invalidation"),
    ("cause_invlpg", "/unsync/fault/fault", "362"),
    ("cause_host_unmap", "/causes/0/kind", "copied_for_retried"),
    ("cause_host_unmap", "/host/event", "unmap"),
    ("cause_fault", "/causes/0/kind", "replaced_by_table"),
    ("cause_fault_recycles", "/causes/0/kind", "rmap_recycled"),
    ("cause_mmio", "/causes/0/kind", "within_fault"),
    ("cause_guest_write", "/store/seq", "186"),
    ("cause_guest_write", "/store/before", "0x218027"),
    ("cause_dirty_log", "/host/event", "dirty_clear"),
    (
        "page_flooded",
        "/zapped/why/write_flooding/store_seq",
        "191",
    ),
    ("page_flooded", "/never_unsync/kind", "upper_level"),
    ("page_unsync", "/unsync/1/changed_by_sync", "1"),
    (
        "seq_store_floods",
        "/zapped/0/zapped_by/write_flooding/stores_since_use",
        "3",
    ),
    ("seq_host_dirty_log", "/changed/5/cause", "dirty_log"),
];

/// Each sentence of the JSON is in the text, and each cause that the text gives is in the JSON.
#[test]
fn text_and_json_give_the_same_causes() {
    let mut seen = 0;
    for (name, recording, args) in CASES {
        let text = words(&stdout(recording, args));
        let json = stdout(recording, &[*args, &["--json"]].concat());
        let json: Value = serde_json::from_str(&json).expect("JSON");
        let mut found = Vec::new();
        sentences(&json, &mut found);
        for sentence in found {
            assert!(
                text.contains(&sentence),
                "{name}: {sentence:?} is not in\n{text}"
            );
        }
        for (_, place, expected) in CAUSES.iter().filter(|(of, ..)| of == name) {
            let value = json.pointer(place).map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            assert_eq!(
                value.as_deref(),
                Some(*expected),
                "{name}: {place} of {json:#}"
            );
            seen += 1;
        }
    }
    assert_eq!(seen, CAUSES.len());
}

#[test]
fn every_class_and_cause_of_the_recordings_has_a_golden() {
    for name in RECORDINGS {
        let has = |word: &str| CASES.iter().any(|(_, _, args)| args.contains(&word));
        for class in Class::ALL {
            let found = find(
                &open(name),
                VmId(0),
                Selector::Class(class, None),
                &mut |_| {},
            );
            assert!(
                found.is_err() || has(class.name()),
                "{name}: {}",
                class.name()
            );
        }
        for cause in Cause::ALL {
            let selector = Selector::Cause(cause, None);
            let found = find(&open(name), VmId(0), selector, &mut |_| {});
            assert!(
                found.is_err() || has(cause.name()),
                "{name}: {}",
                cause.name()
            );
        }
    }
}

/// Each record by its number: it is explained as what it is.
#[test]
fn every_record_can_be_explained() {
    for name in RECORDINGS.into_iter().filter(|name| !LARGE.contains(name)) {
        let trace = open(name);
        let records: Vec<_> = trace
            .records()
            .map(|record| record.expect("a record"))
            .collect();
        for record in &records {
            let seq = record.seq();
            let explained = explain(&trace, Selector::Seq(seq));
            let json = explained.json().expect("JSON");
            let (kind, key, value) = match record {
                trace::Record::Page(row) => ("page", "spt", Value::from(row.spt.to_string())),
                trace::Record::Fault(_) => ("fault", "seq", seq.0.into()),
                trace::Record::Entry(_) => ("change", "seq", seq.0.into()),
                _ => ("record", "seq", seq.0.into()),
            };
            assert_eq!(json["explains"], kind, "{name}: {record:?}");
            assert_eq!(json[key], value, "{name}: {record:?}");
            assert!(!explained.text(100).is_empty());
        }
    }
}

/// A fault and a change have the same number whether they are asked for by it or by their record.
#[test]
fn numbers_and_records_agree() {
    let trace = open("loads-lab");
    for index in [0, 7, 45] {
        for (selector, key) in [
            (Selector::Change(index), "change"),
            (Selector::Index(index), "fault"),
        ] {
            let of = json(&trace, selector);
            assert_eq!(of[key], index);
            let seq = Seq(of["seq"].as_u64().expect("a number"));
            assert_eq!(json(&trace, Selector::Seq(seq)), of);
        }
    }
}

fn gva(of: &Value) -> u64 {
    let text = of["gva"].as_str().expect("an address");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal")
}

#[test]
fn by_default_a_class_is_explained_by_the_workloads_own_work() {
    let trace = open("loads");
    let range = trace.meta().workload.as_ref().expect("a workload");
    let within = range.range_gva..range.range_gva + range.range_pages * 4096;
    let own = json(&trace, Selector::Class(Class::Shadow, None));
    assert!(within.contains(&gva(&own)), "{own}");
    let first = json(&trace, Selector::Class(Class::Shadow, Some(0)));
    assert!(first["fault"].as_u64() < own["fault"].as_u64());
    assert!(!within.contains(&gva(&first)), "{first}");
}

/// Pages, a store, a root, a mark, a keyframe's page.
#[test]
fn pages_and_other_records_are_explained() {
    let trace = open("loads-lab");
    let mut text = String::new();
    let mut seen = [false; 6];
    for record in trace.records() {
        let record = record.expect("a record");
        let kind = match &record {
            trace::Record::Page(row) if row.level.0 == 1 && row.event.name() == "unsync" => 0,
            trace::Record::Write(_) => 1,
            trace::Record::Root(_) => 2,
            trace::Record::Mark(_) => 3,
            trace::Record::Keyframe(_) => 4,
            trace::Record::Host(_) => 5,
            _ => continue,
        };
        if !std::mem::replace(&mut seen[kind], true) {
            text += &explain(&trace, Selector::Seq(record.seq())).text(100);
            text.push('\n');
        }
    }
    assert_eq!(seen, [true; 6]);
    insta::assert_snapshot!("other_records", text);
}

/// The counts of a page's life are those of its records.
#[test]
fn a_pages_life_counts_its_records() {
    let trace = open("boot-lab");
    let mut spts = Vec::new();
    for record in trace.records() {
        if let Ok(trace::Record::Page(row)) = record {
            spts.push(row.spt);
        }
    }
    spts.sort();
    spts.dedup();
    for spt in spts.into_iter().take(12) {
        let rows = |wanted: fn(&trace::PageRow) -> bool| {
            let records = trace.records().map_while(Result::ok);
            let pages = records.filter(|record| {
                matches!(record, trace::Record::Page(row) if row.spt == spt && wanted(row))
            });
            pages.count() as u64
        };
        let lives: Vec<_> = (0..)
            .map_while(|nth| find(&trace, VmId(0), Selector::Page(spt, nth), &mut |_| {}).ok())
            .map(|life| life.json().expect("JSON"))
            .collect();
        let born = lives.iter().filter(|life| life["was_born"] == true).count() as u64;
        let sum = |key: &str| -> u64 { lives.iter().filter_map(|life| life[key].as_u64()).sum() };
        assert_eq!(born, rows(|row| row.event.name() == "born"), "{spt}");
        assert_eq!(
            sum("reused"),
            rows(|row| row.event.name() == "reused"),
            "{spt}"
        );
        assert_eq!(
            sum("unsync_total"),
            rows(|row| row.event.name() == "unsync"),
            "{spt}"
        );
    }
}

/// `explain --seq` knows each event of a shadow page: a root in use is zapped twice, and some pages
/// have their end as their first record.
/// What removed the entry of a fault is the same to `explain` and in an export, which takes it from
/// the join of `refaults`.
#[test]
fn what_removed_an_entry_is_the_same_to_explain_and_to_an_export() {
    let mut named = 0;
    for name in ["dirty-lab", "flood-lab", "sync-lab", "unsync"] {
        let trace = open(name);
        let args = ["export", "--to", "jsonl"];
        let rows = analyzer().args(args).arg(recording(name)).output();
        let rows = String::from_utf8(rows.expect("the program starts").stdout).expect("text");
        assert!(rows.lines().count() > 50, "{name}");
        for row in rows.lines() {
            let row: Value = serde_json::from_str(row).expect("a row");
            let seq = row["seq"].as_u64().expect("a number");
            let fault = json(&trace, Selector::Seq(Seq(seq)));
            let of = [&fault["refault"]["cause"], &fault["refault"]["seq"]];
            if row["removed_seq"].is_null() {
                assert_eq!(fault["refault"], Value::Null, "{name} {row}");
            } else {
                assert_eq!(
                    of,
                    [&row["removed_by"], &row["removed_seq"]],
                    "{name} {row}"
                );
                named += 1;
            }
        }
    }
    assert!(named > 50, "{named}");
}

#[test]
fn each_event_of_a_page_is_explained() {
    let (mut again, mut zaps) = (0, 0);
    for name in ["boot-lab", "roots"] {
        let trace = open(name);
        let mut alive = BTreeSet::new();
        for record in trace.records() {
            let Ok(trace::Record::Page(row)) = record else {
                continue;
            };
            zaps += u64::from(row.event == PageEvent::Zapped);
            let is_over = !alive.contains(&row.spt);
            if !matches!(row.event, PageEvent::Zapped | PageEvent::Sync) {
                alive.insert(row.spt);
            } else if is_over || zaps.is_multiple_of(16) {
                let life = json(&trace, Selector::Seq(row.seq));
                let found = (&life["spt"], &life["gfn"]);
                assert_eq!(
                    found,
                    (&serde_json::json!(row.spt), &serde_json::json!(row.gfn)),
                    "{name} {life}"
                );
                again += u64::from(life["zapped"]["freed_seq"] == row.seq.0);
            }
            if row.event == PageEvent::Zapped {
                alive.remove(&row.spt);
            }
        }
    }
    assert!(again > 100, "{again}");
}

/// A fault and the page that it made KVM zap name one reason.
#[test]
fn a_fault_and_the_page_that_it_zapped_agree() {
    let mut repeated = 0;
    for name in ["boot-lab", "roots", "flood-lab"] {
        let trace = open(name);
        for record in trace.records() {
            let Ok(trace::Record::Fault(row)) = record else {
                continue;
            };
            if row.class != Class::WriteProtected {
                continue;
            }
            let fault = json(&trace, Selector::Seq(row.seq));
            let lists = ["pages", "zapped_after"].map(|list| fault[list].as_array());
            for page in lists.into_iter().flatten().flatten() {
                let (why, seq) = (&page["zapped_by"], page["seq"].as_u64());
                let (false, Some(seq)) = (why.is_null(), seq) else {
                    continue;
                };
                let life = json(&trace, Selector::Seq(Seq(seq)));
                assert_eq!(&life["zapped"]["why"], why, "{name} {fault} {life}");
                repeated += u64::from(why == "store_retried");
            }
        }
    }
    assert!(repeated > 0);
}

/// A page that was zapped for write flooding says so, with the store that did it.
#[test]
fn write_flooding_is_known_by_its_third_store() {
    let trace = open("flood-lab");
    let mut flooded = 0;
    for record in trace.records() {
        let Ok(trace::Record::Page(row)) = record else {
            continue;
        };
        if row.event.name() != "zapped" || row.level.0 < 2 {
            continue;
        }
        let life = json(&trace, Selector::Seq(row.seq));
        let why = &life["zapped"]["why"]["write_flooding"];
        assert_eq!(why["stores_since_use"], 3, "{life}");
        assert!(why["store_seq"].as_u64() < Some(row.seq.0), "{life}");
        flooded += 1;
    }
    assert!(flooded >= 2, "{flooded}");
}

/// Where a VM has no change of a cause, the hint is a command that works.
#[test]
fn a_hint_is_a_command_that_works() {
    for recording in ["demand", "loads", "loads-lab"] {
        for args in [
            ["--cause", "sync"],
            ["--class", "fast"],
            ["--seq", "999999"],
        ] {
            let output = run(recording, &args);
            assert_eq!(output.status.code(), Some(2), "{recording} {args:?}");
            let error = words(&String::from_utf8_lossy(&output.stderr));
            let hint = error.split('`').nth(1).expect("a command");
            let hinted: Vec<_> = hint.split(' ').skip(2).collect();
            assert_eq!(hinted[0], recording, "{error}");
            assert!(stdout(recording, &hinted[1..]).len() > 100, "{error}");
        }
    }
}

#[test]
fn what_is_missing_is_named_with_what_there_is() {
    let trace = open("loads-lab");
    let mut text = String::new();
    for selector in [
        Selector::Cause(Cause::DirtyLog, None),
        Selector::Class(Class::Fast, None),
        Selector::Change(4711),
        Selector::Seq(Seq(99_999)),
        Selector::Page(Hpa(0x1000), 0),
    ] {
        let error = find(&trace, VmId(0), selector, &mut |_| {}).expect_err("nothing");
        text += &format!("{error}\n");
    }
    insta::assert_snapshot!("nothing", text);
}
