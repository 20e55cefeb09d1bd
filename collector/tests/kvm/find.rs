//! `find` lists at each moment what a search of all tables finds there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::support::{analyzer, folder, json, record, run};

/// Moments at which the tables are searched.
const MOMENTS: u64 = 10;
/// Addresses of each kind, of all and of those that change, besides the one with most mappings.
const ADDRESSES: usize = 5;
/// Bits of an SPTE: shadow-present, a leaf above level 1, the frame.
const PRESENT: u64 = 1 << 11;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Level of the roots of a guest with four levels.
const TOP: u64 = 4;

/// Root and first address, of a leaf that a root leads to; place of the leaf.
type Found = BTreeSet<(Option<(u64, u64)>, u64)>;

/// A leaf, by one of the ways to it.
struct Leaf {
    way: Option<(u64, u64)>,
    place: u64,
    pages: u64,
    pfn: u64,
    gfn: Option<u64>,
}

/// An option of `find`, and the page number that it looks for.
struct Kind {
    option: &'static str,
    shift: u32,
    first: fn(&Leaf) -> Option<u64>,
}

const KINDS: [Kind; 4] = [
    Kind {
        option: "--hpa",
        shift: 12,
        first: |leaf| Some(leaf.pfn),
    },
    Kind {
        option: "--gva",
        shift: 12,
        first: |leaf| leaf.way.map(|(_, gva)| gva >> 12),
    },
    Kind {
        option: "--gpa",
        shift: 12,
        first: |leaf| leaf.gfn,
    },
    Kind {
        option: "--gfn",
        shift: 0,
        first: |leaf| leaf.gfn,
    },
];

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

/// Every leaf of the tables, once for each way from a root to it.
fn leaves(table: &Value) -> Vec<Leaf> {
    let pages = table["pages"].as_array().expect("pages").iter();
    let pages: BTreeMap<u64, &Value> = pages.map(|page| (hex(&page["spt"]), page)).collect();
    let mut found = Vec::new();
    for root in pages.values().filter(|page| page["level"] == TOP) {
        let root = hex(&root["spt"]);
        below(&pages, root, Some((root, 0)), &mut found);
    }
    let seen: BTreeSet<_> = found.iter().map(|leaf| leaf.place).collect();
    for spt in pages.keys() {
        let mut alone = Vec::new();
        of_page(&pages, *spt, None, &mut alone);
        found.extend(alone.into_iter().filter(|leaf| !seen.contains(&leaf.place)));
    }
    found
}

fn below(pages: &BTreeMap<u64, &Value>, spt: u64, way: Option<(u64, u64)>, found: &mut Vec<Leaf>) {
    for (child, way) in of_page(pages, spt, way, found) {
        below(pages, child, way, found);
    }
}

/// Adds the leaves of one page; its links, each with the way to it.
fn of_page(
    pages: &BTreeMap<u64, &Value>,
    spt: u64,
    way: Option<(u64, u64)>,
    found: &mut Vec<Leaf>,
) -> Vec<(u64, Option<(u64, u64)>)> {
    let page = pages[&spt];
    let level = number(&page["level"]);
    let mut links = Vec::new();
    for entry in page["entries"].as_array().expect("entries") {
        let (index, spte) = (number(&entry["index"]), hex(&entry["spte"]));
        let way = way.map(|(root, base)| {
            // The upper half is sign-extended from bit 47.
            let gva = base + (index << (12 + 9 * (level - 1)));
            (root, ((gva << 16).cast_signed() >> 16).cast_unsigned())
        });
        let target = spte & ADDRESS;
        if spte & PRESENT == 0 {
            continue;
        }
        if level == 1 || spte & LARGE != 0 {
            found.push(Leaf {
                way,
                place: spt + 8 * index,
                pages: 1 << (9 * (level - 1)),
                pfn: target >> 12,
                gfn: (!entry["gfn"].is_null()).then(|| hex(&entry["gfn"])),
            });
        } else if pages.contains_key(&target) {
            links.push((target, way));
        }
    }
    links
}

/// The mappings of `find` that are there just after the record `seq`.
fn listed(found: &Value, seq: u64) -> Found {
    let mappings = found["vms"][0]["mappings"].as_array().expect("mappings");
    let at = mappings.iter().filter(|of| {
        let until = of["until"]["seq"].as_u64();
        number(&of["from"]["seq"]) <= seq && until.is_none_or(|until| until > seq)
    });
    let way = |of: &Value| (!of["root"].is_null()).then(|| (hex(&of["root"]), hex(&of["gva"])));
    at.map(|of| (way(of), hex(&of["sptep"]))).collect()
}

fn searched(leaves: &[Leaf], kind: &Kind, page: u64) -> Found {
    let has = |leaf: &&Leaf| {
        (kind.first)(leaf).is_some_and(|first| (first..first + leaf.pages).contains(&page))
    };
    let found = leaves.iter().filter(has);
    found.map(|leaf| (leaf.way, leaf.place)).collect()
}

/// Pages with a mapping at one of the moments: the one with most, the last page of the largest
/// leaf, some of all, and some whose mappings are not the same at all moments.
fn pages(moments: &[(u64, Vec<Leaf>)], kind: &Kind) -> BTreeSet<u64> {
    let mut mapped: BTreeMap<u64, BTreeMap<u64, Found>> = BTreeMap::new();
    let mut largest = (0, 0);
    for (seq, leaves) in moments {
        for leaf in leaves {
            let Some(first) = (kind.first)(leaf) else {
                continue;
            };
            let found = mapped.entry(first).or_default().entry(*seq).or_default();
            found.insert((leaf.way, leaf.place));
            largest = largest.max((leaf.pages, first + leaf.pages - 1));
        }
    }
    let most = mapped
        .iter()
        .max_by_key(|(_, at)| at.values().map(BTreeSet::len).sum::<usize>());
    let most = most.map(|(page, _)| *page);
    let changes = |at: &BTreeMap<u64, Found>| {
        let mut sets = at.values();
        let first = sets.next();
        at.len() < moments.len() || sets.any(|found| Some(found) != first)
    };
    let changing = mapped.iter().filter(|(_, at)| changes(at));
    let changing: Vec<_> = changing.map(|(page, _)| *page).collect();
    let all: Vec<_> = mapped.keys().copied().collect();
    let some = [all, changing].into_iter().flat_map(|pages| {
        let step = (pages.len() / ADDRESSES).max(1);
        pages.into_iter().step_by(step)
    });
    some.chain(most).chain([largest.1]).collect()
}

/// Records the workload, and compares each kind of search with the tables at each moment.
fn check(workload: &[&str]) {
    let folder = folder();
    let (trace, outcome) = record(&folder, workload);
    assert_eq!(outcome["recorded"]["lost"], 0, "{workload:?}");
    let last = number(&analyze(&trace, "table", &["--at", "end"])["seq"]);
    let moments = (1..=MOMENTS).map(|part| {
        let at = (last * part / MOMENTS).to_string();
        let table = analyze(&trace, "table", &["--seq", &at]);
        (number(&table["seq"]), leaves(&table))
    });
    let moments: Vec<_> = moments.collect();
    let (mut compared, mut changed) = (0, 0);
    for kind in &KINDS {
        for page in pages(&moments, kind) {
            let address = format!("{:#x}", page << kind.shift);
            let found = analyze(&trace, "find", &[kind.option, &address]);
            let mut before = None;
            for (seq, leaves) in &moments {
                let searched = searched(leaves, kind, page);
                let listed = listed(&found, *seq);
                let option = kind.option;
                assert_eq!(
                    listed, searched,
                    "{workload:?}: {option} {address} just after {seq}"
                );
                compared += searched.len();
                changed += u64::from(before.is_some_and(|before| before != searched));
                before = Some(searched);
            }
        }
    }
    // Mappings that never change would prove little.
    assert!(
        compared > 100 && changed > 10,
        "{workload:?}: {compared} {changed}"
    );
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_find_lists_what_a_search_of_the_tables_finds() {
    check(&["remap", "-p", "pages=64"]);
    check(&["reclaim", "-p", "pages=64"]);
    check(&["fork", "-p", "pages=64"]);
    check(&["alias", "-p", "aliases=40"]);
    // More than 1,000 of one frame: KVM drops all, and nothing records it.
    check(&["alias", "-p", "aliases=1002"]);
    check(&["huge", "-p", "backing=huge"]);
    check(&["switch", "-p", "spaces=4"]);
}

/// KVM drops the entries of a frame that has more than it keeps track of. On KVM-PVM none of them
/// has a record of its own.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_entries_that_a_fault_dropped_are_changes_with_that_fault() {
    let folder = folder();
    let (trace, _) = record(&folder, &["alias", "-p", "aliases=1002"]);
    let of = &analyze(&trace, "refaults", &[])["vms"][0]["refaults"];
    let acts = of["acts"].as_array().expect("acts").iter();
    let mut acts = acts.filter(|act| act["cause"] == "rmap_recycled");
    let act = acts.next().expect("a frame had too many entries");
    let (seq, removed) = (number(&act["seq"]), number(&act["entries_removed"]));
    assert!(removed > 1000, "{act}");

    let fault = analyze(&trace, "explain", &["--seq", &seq.to_string()]);
    for key in ["entries_removed", "refaults", "total_ns"] {
        assert_eq!(fault["recycled"][key], act[key], "{key}: {fault}");
    }
    // The fault's own entry comes and goes in one record.
    let at = format!("seq:{seq}");
    let listed = ["--from", &at, "--to", &at, "--cause", "fault"];
    let changes = analyze(&trace, "changes", &listed);
    assert_eq!(changes["vms"][0]["matching"], removed, "{changes}");
    let before = format!("seq:{}", seq - 1);
    let diff = analyze(&trace, "table", &["--diff", &before, &at]);
    let changes = diff["changes"].as_array().expect("changes");
    assert_eq!(changes.len() as u64, removed - 1, "{seq}");
    assert!(changes.iter().all(|of| of["cause"] == "fault"), "{seq}");
}
