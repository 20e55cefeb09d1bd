//! Why addresses fault again: the causes are what the workload did.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    self, analyze, analyzer, folder, record,
    refaults::{Bills, Case, DIRTY, FLOOD, MEMSLOT, RECLAIM, RECYCLE, REMAP},
    run, series, trace_of,
};

fn check(cases: &[Case]) {
    let folder = folder();
    for Case { item, check } in cases {
        series(folder.path(), &[item]);
        check(&Bills::of(&folder.path().join(trace_of(item))));
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_remapped_pages_fault_again_for_the_guests_stores() {
    check(REMAP);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_flooded_directory_is_walked_again() {
    check(&[FLOOD]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_recycled_tables_fault_again_in_each_pass() {
    check(&[RECYCLE]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_pages_of_a_dirty_log_fault_again_for_it() {
    check(&[DIRTY]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_deleted_memslot_makes_everything_fault_again() {
    check(&[MEMSLOT]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_reclaimed_pages_fault_again_for_the_host() {
    check(&[RECLAIM]);
}

/// What takes an entry away is the same act to each command, whether its entries have records of
/// their own or not.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_removal_by_the_host_is_that_to_every_command() {
    let folder = folder();
    let (trace, _) = record(&folder, &["reclaim", "-p", "pages=128", "-p", "passes=8"]);
    let ask = |args: &[&str]| support::json(&run(analyzer().args(args).arg("--json").arg(&trace)));
    let refaults = analyze("refaults", &trace);
    let acts = refaults["vms"][0]["refaults"]["acts"].as_array();
    let acts = acts.expect("acts").iter();
    // A fault while the act is under way has its record before that of the act.
    let after = |act: &&Value| act["worst"]["seq"].as_u64() > act["seq"].as_u64();
    let acts = acts
        .filter(|act| act["cause"] == "host_unmap")
        .filter(after);
    let mut checked = 0;
    for act in acts.take(5) {
        let removed = act["seq"].as_u64().expect("a number");
        let mapped = act["worst"]["seq"].as_u64().expect("a number");
        let fault = ask(&["explain", "--seq", &mapped.to_string()]);
        assert_eq!(fault["cause"]["kind"], "entry_emptied", "{act}: {fault}");
        assert_eq!(fault["emptied"]["cause"], "host_unmap", "{act}: {fault}");
        let gva = fault["gva"].as_str().expect("an address");

        let is_it = |of: &Value| {
            let of = &of["until"];
            let by = of["act"]["by"].as_u64().or(of["seq"].as_u64());
            of["act"]["cause"] == "host_unmap" && by.is_some_and(|by| by >= removed && by < mapped)
        };
        let found = ask(&["find", "--gva", gva]);
        let mappings = found["vms"][0]["mappings"].as_array().expect("mappings");
        assert!(mappings.iter().any(is_it), "{act}: {found}");

        let changes = ask(&["changes", "--gva", gva, "--cause", "host_unmap"]);
        let changes = changes["vms"][0]["changes"].as_array().expect("changes");
        let seq = |of: &Value| of["seq"].as_u64().expect("a number");
        let mut seqs = changes.iter().map(seq);
        assert!(
            seqs.any(|seq| (removed..mapped).contains(&seq)),
            "{act}: {changes:?}"
        );

        let moments = [removed, mapped - 1].map(|seq| format!("seq:{seq}"));
        let tables = ask(&["table", "--diff", &moments[0], &moments[1]]);
        let changes = tables["changes"].as_array().expect("changes");
        let of = changes
            .iter()
            .find(|of| of["gva"] == gva && of["level"] == 1);
        let of = of.unwrap_or_else(|| panic!("{act}: no change of {gva}"));
        assert_eq!(
            (&of["change"], &of["cause"]),
            (&json!("removed"), &json!("host_unmap"))
        );
        checked += 1;
    }
    assert!(checked > 0, "{refaults}");

    // Another process reads the same.
    let pages = ["a.html", "b.html"].map(|name| {
        let page = folder.path().join(name);
        run(analyzer().arg("report").arg(&trace).arg("-o").arg(&page));
        fs::read(page).expect("a page")
    });
    assert!(pages[0] == pages[1], "two reports of one trace");
}
