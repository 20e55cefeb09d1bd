//! What `top` makes of a Linux guest: its processes, and the functions of its kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use events::{Class, Gpa, Gva};
use serde_json::Value;
use trace::{Record, Trace};

use crate::support::{analyzer, json, run};

/// Pages that three processes of the guest's init fill one after another, each in its own buffer
/// and all at once.
const BUFFERS: [u64; 3] = [512, 768, 1024];

fn top(trace: &Path, args: &[&str]) -> Value {
    let mut command = analyzer();
    command.arg("top").arg(trace).args(args);
    json(&run(command.args(["--top", "100000", "--json"])))["vms"][0].clone()
}

fn count(of: &Value) -> u64 {
    of["count"].as_u64().expect("a count")
}

fn payers(of: &Value) -> &[Value] {
    of["payers"].as_array().expect("payers")
}

/// The longest run of guest faults on one page after another, in each address space.
fn longest_runs(trace: &Path) -> BTreeMap<Gpa, u64> {
    let mut runs: BTreeMap<Gpa, (Gva, u64)> = BTreeMap::new();
    let mut longest = BTreeMap::new();
    for record in Trace::open(trace).expect("a trace").records() {
        let Record::Fault(fault) = record.expect("a whole trace") else {
            continue;
        };
        let user = fault.gva.0 >> 47 == 0;
        if fault.class != Class::Guest || !user {
            continue;
        }
        let page = Gva(fault.gva.0 & !0xfff);
        let (next, length) = runs.entry(fault.cr3).or_insert((page, 0));
        *length = if *next == page { *length + 1 } else { 1 };
        *next = Gva(page.0 + 0x1000);
        let most = longest.entry(fault.cr3).or_insert(0);
        *most = (*most).max(*length);
    }
    longest
}

/// Each of the three processes has its own CR3, and `top` has all its faults there.
pub fn processes_are_separated(trace: &Path) {
    let spaces = top(trace, &["--by", "cr3", "--class", "guest"]);
    let runs = longest_runs(trace);
    let mut found = BTreeSet::new();
    for pages in BUFFERS {
        // malloc's first page may have been touched before.
        let fits = |(_, run): &(&Gpa, &u64)| (pages - 1..pages + 64).contains(*run);
        let of: Vec<_> = runs.iter().filter(fits).map(|(cr3, _)| *cr3).collect();
        let [cr3] = of[..] else {
            panic!("one process fills {pages} pages: {runs:?}");
        };
        assert!(found.insert(cr3));
        let key = serde_json::to_value(cr3).expect("an address");
        let payer = payers(&spaces).iter().find(|payer| payer["key"] == key);
        let payer = payer.unwrap_or_else(|| panic!("{cr3} in {spaces:#}"));
        assert!(count(payer) >= pages - 1, "{payer:#}");
    }
    // Nothing is counted twice or left out.
    let all: u64 = payers(&spaces).iter().map(count).sum();
    assert_eq!(all + count(&spaces["without_key"]), count(&spaces["all"]));
}

/// What Linux does at a fault, at `fork`, when a process ends, and at a switch: stores to page
/// tables, pages cleared, tables copied and freed, CR3 loaded.
const FUNCTIONS: [&str; 6] = [
    "native_set_pte",
    "clear_page",
    "copy_page_range",
    "copy_process",
    "unmap_page_range",
    "switch_mm",
];

/// The kernel's functions have their names, from the symbols in the trace.
pub fn functions_are_named(trace: &Path) {
    let symbols = top(trace, &["--by", "symbol"]);
    // Names in parentheses are not functions: user space, the firmware, modules.
    let name = |payer: &Value| payer["name"].as_str().expect("a name").to_owned();
    let functions = payers(&symbols).iter();
    let functions: Vec<_> = functions
        .filter(|payer| !name(payer).starts_with('('))
        .collect();
    let most: Vec<_> = functions.iter().take(50).map(|of| name(of)).collect();
    for function in FUNCTIONS {
        assert!(
            most.iter().any(|name| name.starts_with(function)),
            "{function} in {most:?}"
        );
    }
    // Of all instructions of the kernel less than one in twenty is without a name.
    let named: u64 = functions.iter().map(|of| count(of)).sum();
    let unnamed = payers(&symbols).iter().find(|of| name(of) == "(no symbol)");
    let unnamed = unnamed.map_or(0, count);
    assert!(unnamed * 20 < named, "{unnamed} and {named}: {most:?}");
    // The same from a file, as a guest's own list is given.
    let list = trace.join("symbols.txt");
    let list = list.to_str().expect("UTF-8");
    let from_file = [
        "--by",
        "symbol",
        "--symbols",
        list,
        "--symbols-offset",
        "0x0",
    ];
    assert_eq!(top(trace, &from_file), symbols);
}
