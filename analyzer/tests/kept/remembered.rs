//! The memory of shadow tables, against a naive count of the rows of a keyframe.

use std::collections::{BTreeMap, BTreeSet};

use events::{Gfn, Hpa, Level, Spte};
use serde_json::Value;
use trace::{KeyframeRow, MarkRow, Row, Trace};

use crate::support::{analyzer, recording};

fn memory(args: &[&str], name: &str) -> Value {
    let output = analyzer()
        .args(["memory", "--json"])
        .args(args)
        .arg(recording(name))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn rows<R: Row>(trace: &Trace) -> Vec<R> {
    let segments = trace.of_kind(R::KIND);
    let rows = segments.map(|segment| trace.segment_rows::<R>(segment).unwrap());
    rows.flatten().collect()
}

/// The element of a level; null without one.
fn at(levels: &Value, level: u8) -> &Value {
    let of = levels.as_array().unwrap().iter();
    let mut of = of.filter(|of| of["level"] == level);
    of.next().unwrap_or(&Value::Null)
}

/// KVM's own pages at a keyframe.
struct Naive {
    pages: BTreeMap<Hpa, (Level, bool, Gfn)>,
    links: BTreeMap<Hpa, BTreeSet<Hpa>>,
}

impl Naive {
    fn of(rows: &[KeyframeRow], number: u32) -> Self {
        let rows = rows.iter().filter(|row| row.keyframe == number);
        let mut naive = Self {
            pages: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        for row in rows {
            let page = (row.level, row.direct != 0, row.gfn);
            naive.pages.insert(row.spt, page);
            if let Some(spte) = row.spte
                && spte.is_shadow_present()
                && !spte.is_leaf(row.level)
            {
                let links = naive.links.entry(row.spt).or_default();
                links.insert(Spte(spte.0).child());
            }
        }
        naive
    }

    fn reached(&self, from: Hpa) -> BTreeSet<Hpa> {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(spt) = next.pop() {
            if self.pages.contains_key(&spt) && reached.insert(spt) {
                next.extend(self.links.get(&spt).into_iter().flatten());
            }
        }
        reached
    }

    fn check(&self, of: &Value, name: &str) {
        assert_eq!(of["pages"], self.pages.len(), "{name}");
        let mut tables: BTreeMap<Gfn, u64> = BTreeMap::new();
        let mut levels: BTreeMap<(u8, bool), u64> = BTreeMap::new();
        for (level, direct, gfn) in self.pages.values() {
            *levels.entry((level.0, *direct)).or_default() += 1;
            if !direct {
                *tables.entry(*gfn).or_default() += 1;
            }
        }
        for ((level, direct), pages) in levels {
            let kind = if direct { "direct" } else { "indirect" };
            assert_eq!(at(&of["by_level"], level)[kind], pages, "{name}");
        }
        assert_eq!(of["guest_tables"], tables.len(), "{name}");
        let several = tables.values().filter(|pages| **pages > 1);
        assert_eq!(of["duplicated_tables"], several.clone().count(), "{name}");
        let beyond: u64 = several.map(|pages| pages - 1).sum();
        assert_eq!(of["duplicate_pages"], beyond, "{name}");
        self.check_roots(of, name);
    }

    fn check_roots(&self, of: &Value, name: &str) {
        let children: BTreeSet<_> = self.links.values().flatten().copied().collect();
        let top = self.pages.values().map(|(level, ..)| *level).max();
        let pages = self.pages.iter();
        let roots =
            pages.filter(|(spt, (level, ..))| !children.contains(spt) && Some(*level) == top);
        let reached: BTreeMap<_, _> = roots.map(|(spt, _)| (*spt, self.reached(*spt))).collect();
        let leading = |page: &Hpa| {
            reached
                .values()
                .filter(|pages| pages.contains(page))
                .count()
        };
        assert_eq!(of["roots"], reached.len(), "{name}");
        for space in of["each_address_space"].as_array().unwrap() {
            let mut pages = BTreeSet::new();
            let mut own_roots = BTreeSet::new();
            for root in space["roots"].as_array().unwrap() {
                let spt = root.as_str().unwrap().trim_start_matches("0x");
                let spt = Hpa(u64::from_str_radix(spt, 16).unwrap());
                pages.extend(&reached[&spt]);
                own_roots.insert(spt);
            }
            let others = || reached.iter().filter(|(root, _)| !own_roots.contains(root));
            let is_own = |page: &&Hpa| others().all(|(_, pages)| !pages.contains(page));
            let own = pages.iter().filter(is_own).count();
            assert_eq!(space["own_pages"], own, "{name} {space}");
            assert_eq!(space["shared_pages"], pages.len() - own, "{name} {space}");
        }
        let unreached = self.pages.keys().filter(|page| leading(page) == 0).count();
        assert_eq!(of["unreached_pages"], unreached, "{name}");
    }
}

#[test]
fn who_has_the_pages_at_the_peak_is_shown() {
    let output = analyzer()
        .current_dir(recording(""))
        .args(["memory", "roots"])
        .output()
        .unwrap();
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[test]
fn the_memory_at_each_keyframe_is_that_of_its_rows() {
    let mut compared = 0;
    for name in [
        "roots",
        "keyframes",
        "lab",
        "flood-lab",
        "alias-lab",
        "unsync",
    ] {
        let trace = Trace::open(&recording(name)).unwrap();
        let copies: Vec<KeyframeRow> = rows(&trace);
        for mark in rows::<MarkRow>(&trace) {
            let Some(ended) = mark.ends_keyframe() else {
                continue;
            };
            let naive = Naive::of(&copies, ended.number);
            if naive.pages.is_empty() {
                continue;
            }
            let json = memory(&["--seq", &mark.seq.0.to_string()], name);
            naive.check(&json["vms"][0]["moment"], name);
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared} keyframes");
}

/// The peak is the highest number that any bin shows, and events add up to what is left.
#[test]
fn the_peak_is_the_highest_and_events_add_up() {
    for name in ["roots", "lab", "flood-lab", "boot-lab", "demand"] {
        let json = memory(&[], name);
        let vm = &json["vms"][0];
        let sum = |of: &Value| -> u64 {
            let levels = of["by_level"].as_array().unwrap().iter();
            levels
                .map(|level| {
                    level["direct"].as_u64().unwrap() + level["indirect"].as_u64().unwrap()
                })
                .sum()
        };
        let bins = vm["bins"].as_array().unwrap();
        let highest = bins.iter().map(sum).max().unwrap();
        let peak = vm["moment"]["pages"].as_u64().unwrap();
        assert!(peak >= highest, "{name}: {peak} {highest}");
        let events = |kind: &str| -> u64 {
            let levels = vm["events"].as_array().unwrap().iter();
            levels.map(|level| level[kind].as_u64().unwrap()).sum()
        };
        assert!(events("made") >= peak, "{name}");
        let in_bins = |kind: &str| -> u64 {
            let bins = bins.iter();
            bins.map(|bin| bin[kind].as_u64().unwrap()).sum()
        };
        for kind in ["made", "reused", "zapped"] {
            assert_eq!(events(kind), in_bins(kind), "{name} {kind}");
        }
    }
}

/// KVM prepares the zap of a root in use twice; it is zapped once.
#[test]
fn pages_made_less_those_zapped_are_left() {
    for name in ["roots", "lab", "flood-lab", "loads-lab", "demand"] {
        let json = memory(&["--at", "end"], name);
        let vm = &json["vms"][0];
        for level in 1..=5 {
            let of = at(&vm["events"], level);
            let count = |of: &Value, kind: &str| of[kind].as_i64().unwrap_or_default();
            let now = at(&vm["moment"]["by_level"], level);
            let left = count(now, "indirect") + count(now, "direct");
            let made = count(of, "made") - count(of, "zapped");
            assert_eq!(made, left, "{name}, level {level}: {of}");
        }
    }
}

#[test]
fn a_moment_after_the_last_record_is_refused() {
    for moment in [["--seq", "999999999"], ["--at", "9999s"]] {
        let output = analyzer()
            .arg("memory")
            .args(moment)
            .arg(recording("roots"))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("record"), "{error}");
    }
}
