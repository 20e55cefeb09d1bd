//! Faults, shadow pages and entries of the workloads whose numbers theory gives.

use crate::support::{
    analyze, folder, record,
    shadow::{plan, shadow},
};

/// Records the workload; theory, the plan and the recording must agree. No fault is retried, but
/// where several vCPUs run, theory has no number.
fn check(workload: &str, params: &[(&str, String)], faults: [u64; 2], tables: (u64, u64)) {
    let what = format!("{workload} {params:?}");
    let plan = plan(workload, params);
    let work = plan.work;
    let plan = plan.expected.expect("theory");
    let one = params
        .iter()
        .all(|(name, value)| *name != "vcpus" || value == "1");
    let retried = one.then_some(0);
    assert_eq!([plan.guest_faults, plan.shadow_faults], faults, "{what}");
    assert_eq!(plan.retried_faults, retried, "{what}");
    assert_eq!((plan.shadow_pages, plan.entries), tables, "{what}");

    let folder = folder();
    let mut args = vec![workload.to_owned()];
    for (name, value) in params {
        args.extend(["-p".to_owned(), format!("{name}={value}")]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let (trace, _) = record(&folder, &args);
    let summary = analyze("summary", &trace);
    let classes = &summary["vms"][0]["classes"];
    let count = |class: &str| classes[class]["in_range"].as_u64().unwrap_or(0);
    assert_eq!(["guest", "shadow"].map(count), faults, "{what}");
    assert!(
        retried.is_none_or(|none| count("retried") == none),
        "{what}"
    );
    assert_eq!(shadow(&trace, "end", work), tables, "{what}");
}

/// A PDPT, and a directory and page tables as far as the pages reach.
fn tables(pages: u64) -> u64 {
    1 + pages.div_ceil(512 * 512) + pages.div_ceil(512)
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_ranges_are_as_theory_says() {
    for pages in [1, 513, 4096] {
        let params = [("pages", pages.to_string())];
        let after = (tables(pages), pages);
        check("linear", &params, [0, pages], after);
        check("demand", &params, [pages, pages], after);
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_roots_that_come_back_cost_nothing() {
    for (spaces, pages) in [(1, 1), (6, 16), (64, 40)] {
        let mut params = vec![
            ("spaces", spaces.to_string()),
            ("pages", pages.to_string()),
            ("rounds", 5.to_string()),
        ];
        // Each space has three tables; each page faults once in each space.
        let own = spaces * pages;
        check("switch", &params, [0, own], (3 * spaces, own));
        // All have the same three.
        params.push(("shared", true.to_string()));
        check("switch", &params, [0, pages], (3, pages));
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_memory_that_is_released_faults_again() {
    for (vcpus, processes, mib) in [(1, 1, 3), (1, 32, 1), (2, 5, 2)] {
        let touched = processes * mib * 256;
        for populate in [false, true] {
            let params = [
                ("vcpus", vcpus.to_string()),
                ("processes", processes.to_string()),
                ("mib", mib.to_string()),
                ("populate", populate.to_string()),
            ];
            let guest = if populate { 0 } else { touched };
            check("alloc", &params, [guest, touched], (3 * processes, 0));
        }
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_operations_fault_as_theory_says() {
    let (ops, batches) = (24, 5);
    let all = ops * batches;
    for (op, faults) in [
        // Each page is stored to once before.
        ("shadow-fault", [0, ops + all]),
        ("page-fault", [all, ops + all]),
        // A load before each batch maps the page read-only.
        ("protection-fault", [all, ops + 2 * all]),
        // An unmapped page is tried after each batch, and all pages are loaded at the end.
        ("map-unmap", [batches, ops + all + ops]),
    ] {
        let params = [
            ("op", op.to_owned()),
            ("ops", ops.to_string()),
            ("batches", batches.to_string()),
        ];
        check("micro", &params, faults, (tables(ops), ops));
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_aliases_past_the_limit_are_dropped_and_come_back() {
    for (aliases, faults, entries) in [
        (8, 8, 8),
        // 1,001 entries are one more than KVM's limit, but only adding another finds that out.
        (1001, 1001, 1001),
        // Page 1001 drops all, and comes back together with page 1000: 1,003 faults. Each load
        // brings back a group of 8: 125 faults for pages 0 to 999, the last of which makes 1,002
        // entries and drops all once more. Pages 992 to 999 and 1000 to 1001 come again, a
        // fault each.
        (1002, 1003 + 125 + 2, 10),
    ] {
        let params = [("aliases", aliases.to_string())];
        check("alias", &params, [0, faults], (tables(aliases), entries));
    }
}
