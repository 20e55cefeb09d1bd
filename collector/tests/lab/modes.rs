//! Guests of other shapes: exact, and as theory says.

use abi::Shape;

use super::{exact::record_to, lab};
use crate::support::{
    analyze, folder,
    shadow::{plan, shadow},
    trace_of,
};

/// A shape, pages and rounds.
type Run = (Shape, u64, u64);

/// More than 512 pages are several leaf pages, of `legacy32` several quadrants; an odd number of
/// rounds ends with the changed pages turned.
const TABLES: &[Run] = &[
    (Shape::Pae, 700, 3),
    (Shape::Legacy32, 1500, 3),
    (Shape::NoPaging, 600, 3),
    (Shape::La57, 64, 3),
];

const OTHERS: &[Run] = &[
    (Shape::Pae, 64, 4),
    (Shape::Legacy32, 64, 4),
    (Shape::Wp, 33, 2),
    (Shape::Nx, 33, 2),
    (Shape::Smep, 33, 2),
    (Shape::Smap, 33, 2),
    (Shape::Smm, 600, 3),
];

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_modes_are_exact_and_fault_as_theory_says() {
    all_are_exact_and_fault_as_theory_says(TABLES);
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_modes_long_are_exact_and_fault_as_theory_says() {
    all_are_exact_and_fault_as_theory_says(OTHERS);
}

fn all_are_exact_and_fault_as_theory_says(runs: &[Run]) {
    let item = |(shape, pages, rounds): &Run| {
        format!("modes:shape={},pages={pages},rounds={rounds}", shape.name())
    };
    let items: Vec<String> = runs.iter().map(item).collect();
    let folder = folder();
    let out = folder.path().join("out");
    record_to(&out, lab(), "0.01", &items);
    for (run, item) in runs.iter().zip(&items) {
        let (shape, pages, rounds) = *run;
        let trace = out.join(trace_of(item));
        let params = [
            ("shape", shape.name().to_owned()),
            ("pages", pages.to_string()),
            ("rounds", rounds.to_string()),
        ];
        let plan = plan("modes", &params);
        let counts = plan.expected.expect("theory");
        let classes = analyze("summary", &trace)["vms"][0]["classes"].clone();
        let found = ["guest", "shadow", "retried"]
            .map(|class| classes[class]["in_range"].as_u64().unwrap_or(0));
        let expected = [counts.guest_faults, counts.shadow_faults, 0];
        assert_eq!(found, expected, "{item}: {classes}");
        // KVM keeps no PAE root after the last round. In SMM the guest makes no mark.
        let at = match shape {
            Shape::Pae | Shape::Legacy32 | Shape::NoPaging => "phase:check",
            Shape::Smm => continue,
            _ => "end",
        };
        let tables = (counts.shadow_pages, counts.entries);
        assert_eq!(shadow(&trace, at, plan.work), tables, "{item}");
    }
}
