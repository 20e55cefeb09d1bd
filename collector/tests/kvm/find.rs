//! `find --hpa` lists what a search of the whole tables finds, at ten moments; and the functions of
//! the built-in guest have names.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::support::{analyzer, folder, json, record, run};

const MOMENTS: u64 = 10;
const PRESENT: u64 = 1 << 11;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Root, first address and place of the leaf.
type Found = BTreeSet<(u64, u64, u64)>;

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn hex(value: &Value) -> u64 {
    let text = value.as_str().expect("a string");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hexadecimal")
}

fn analyze(trace: &Path, command: &str, args: &[&str]) -> Value {
    let mut analyzer = analyzer();
    analyzer.arg(command).arg(trace).args(args).arg("--json");
    json(&run(&mut analyzer))
}

/// Every leaf below every root, with the frame that it maps.
fn leaves(table: &Value) -> BTreeMap<(u64, u64, u64), u64> {
    let pages = table["pages"].as_array().expect("pages").iter();
    let pages: BTreeMap<u64, &Value> = pages.map(|page| (hex(&page["spt"]), page)).collect();
    let mut found = BTreeMap::new();
    for page in pages.values().filter(|page| page["level"] == 4) {
        let root = hex(&page["spt"]);
        let mut below = vec![(root, 0)];
        while let Some((spt, base)) = below.pop() {
            let page = pages[&spt];
            let level = number(&page["level"]);
            for entry in page["entries"].as_array().expect("entries") {
                let (index, spte) = (number(&entry[0]), hex(&entry[1]));
                let gva = base + (index << (12 + 9 * (level - 1)));
                if spte & PRESENT == 0 {
                    continue;
                }
                if level == 1 || spte & LARGE != 0 {
                    // The upper half is sign-extended from bit 47.
                    let gva = ((gva << 16).cast_signed() >> 16).cast_unsigned();
                    found.insert((root, gva, spt + 8 * index), (spte & ADDRESS) >> 12);
                } else if pages.contains_key(&(spte & ADDRESS)) {
                    below.push((spte & ADDRESS, gva));
                }
            }
        }
    }
    found
}

fn listed(found: &Value, seq: u64) -> Found {
    let mappings = found["vms"][0]["mappings"].as_array().expect("mappings");
    let at = mappings.iter().filter(|of| {
        let ended = of["until"]["seq"]
            .as_u64()
            .is_some_and(|until| until <= seq);
        number(&of["from"]["seq"]) <= seq && !ended && of["root"].is_string()
    });
    at.map(|of| (hex(&of["root"]), hex(&of["gva"]), hex(&of["sptep"])))
        .collect()
}

fn check(workload: &[&str]) {
    let folder = folder();
    let (trace, _) = record(&folder, workload);
    let last = number(&analyze(&trace, "table", &["--at", "end"])["seq"]);
    let moments = (1..=MOMENTS).map(|part| last * part / MOMENTS);
    let tables: Vec<_> = moments
        .map(|seq| {
            let at = seq.to_string();
            let table = analyze(&trace, "table", &["--seq", &at]);
            (number(&table["seq"]), leaves(&table))
        })
        .collect();
    let mut pfns: BTreeMap<u64, u64> = BTreeMap::new();
    for pfn in tables.iter().flat_map(|(_, leaves)| leaves.values()) {
        *pfns.entry(*pfn).or_default() += 1;
    }
    let most = pfns.iter().max_by_key(|(_, count)| **count);
    let most = most.map(|(pfn, _)| *pfn);
    let some = pfns.keys().copied().step_by((pfns.len() / 5).max(1));
    for pfn in most.into_iter().chain(some) {
        let hpa = format!("{:#x}", pfn << 12);
        let found = analyze(&trace, "find", &["--hpa", &hpa]);
        for (seq, leaves) in &tables {
            let mine = leaves.iter().filter(|(_, frame)| **frame == pfn);
            let searched: Found = mine.map(|(of, _)| *of).collect();
            let listed = listed(&found, *seq);
            assert_eq!(listed, searched, "{workload:?}: hpa {hpa} at seq {seq}");
        }
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_find_lists_what_a_search_of_the_tables_finds() {
    check(&["remap", "-p", "pages=64"]);
    check(&["reclaim", "-p", "pages=64"]);
    check(&["alias", "-p", "aliases=40"]);
    check(&["switch", "-p", "spaces=4"]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_the_functions_of_the_built_in_guest_have_names() {
    let folder = folder();
    let (trace, _) = record(&folder, &["demand", "-p", "pages=512"]);
    let top = analyze(
        &trace,
        "top",
        &["--by", "symbol", "--class", "guest,shadow"],
    );
    let vm = &top["vms"][0];
    let payers = vm["payers"].as_array().expect("payers");
    let named = payers
        .iter()
        .filter(|of| !of["name"].as_str().expect("a name").starts_with('('));
    let named: u64 = named.map(|of| number(&of["count"])).sum();
    assert_eq!(named, number(&vm["all"]["count"]), "{vm:#}");
    assert!(number(&vm["all"]["count"]) > 1024, "{vm:#}");
}
