//! The shadow tables of the work range, as the analyzer prints them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;
use workloads::{Plan, WorkRange};

use super::{analyzer, json, run};

const PRESENT: u64 = 1;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A workload with these parameters.
pub fn plan(workload: &str, params: &[(&str, String)]) -> Plan {
    let params: Vec<_> = params
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let plan = workloads::find(workload).expect("a workload").plan(&params);
    plan.expect("a plan")
}

struct Page {
    level: u64,
    entries: Vec<(u64, u64)>,
}

struct Tables {
    pages: BTreeMap<u64, Page>,
    work: WorkRange,
    seen: BTreeSet<u64>,
    leaves: u64,
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn hex(value: &Value) -> u64 {
    let text = value.as_str().expect("a string");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("an address or an entry")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Shadow pages below the roots that translate the work range, and leaf entries of it, at a moment.
/// Ranges below 4 GiB are those of guests that run on PAE roots.
pub fn shadow(trace: &Path, at: &str, work: WorkRange) -> (u64, u64) {
    let table = json(&run(analyzer()
        .args(["table", "--at", at, "--json"])
        .arg(trace)));
    let page = |page: &Value| {
        let entries = list(&page["entries"]).iter();
        let entries = entries.map(|entry| (number(&entry["index"]), hex(&entry["spte"])));
        let level = number(&page["level"]);
        (
            hex(&page["spt"]),
            Page {
                level,
                entries: entries.collect(),
            },
        )
    };
    let mut tables = Tables {
        pages: list(&table["pages"]).iter().map(page).collect(),
        work,
        seen: BTreeSet::new(),
        leaves: 0,
    };
    let is_narrow = work.end().0 <= 1 << 32;
    for root in list(&table["roots"]) {
        match root["pdptes"].as_array() {
            Some(pdptes) if is_narrow => {
                for (base, table) in (0..).step_by(1 << 30).zip(pdptes) {
                    if !table.is_null() && tables.meets(base, 1 << 30) {
                        tables.below(hex(table), base);
                    }
                }
            }
            None if !is_narrow => tables.entries(hex(&root["root"]), 0),
            _ => {}
        }
    }
    (tables.seen.len() as u64, tables.leaves)
}

impl Tables {
    fn meets(&self, base: u64, bytes: u64) -> bool {
        base < self.work.end().0 && self.work.start.0 < base + bytes
    }

    fn below(&mut self, spt: u64, base: u64) {
        if self.seen.insert(spt) {
            self.entries(spt, base);
        }
    }

    fn entries(&mut self, spt: u64, base: u64) {
        let Page { level, entries } = &self.pages[&spt];
        let (level, entries) = (*level, entries.clone());
        let span = 4096_u64 << (9 * (level - 1));
        for (index, entry) in entries {
            let at = base + index * span;
            if entry & PRESENT == 0 || !self.meets(at, span) {
                continue;
            }
            if level == 1 {
                self.leaves += 1;
            } else {
                self.below(entry & ADDRESS, at);
            }
        }
    }
}
