//! What one more address space costs in shadow memory, by theory.

use crate::support::{analyzer, folder, json, record, run};

/// Own and shared pages of each root of `switch`, which loads as many address spaces, once all were
/// used: when there are most pages, the last root may not be linked yet.
fn roots(spaces: u64, shared: bool) -> Vec<[u64; 2]> {
    let folder = folder();
    let (spaces, shared) = (format!("spaces={spaces}"), format!("shared={shared}"));
    let (trace, _) = record(&folder, &["switch", "-p", &spaces, "-p", &shared]);
    let mut memory = analyzer();
    memory.arg("memory").arg(&trace);
    let memory = json(&run(memory.args(["--at", "phase:check", "--json"])));
    let roots = memory["vms"][0]["moment"]["each_address_space"]
        .as_array()
        .cloned();
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let roots = roots.expect("roots");
    let roots = roots.iter();
    roots
        .map(|root| [number(&root["own_pages"]), number(&root["shared_pages"])])
        .collect()
}

/// Each has its root and a table of levels 3, 2 and 1 for its 16 pages; so has that of the guest's
/// kernel, which starts them. The kernel is mapped by three tables that all of them share.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_an_address_space_costs_its_root_and_its_own_tables() {
    for spaces in [2, 6, 20] {
        let found = roots(spaces, false);
        let with_own = found.iter().filter(|[own, _]| *own == 4);
        assert_eq!(with_own.count() as u64, spaces + 1, "{found:?}");
        assert!(found.iter().all(|[_, shared]| *shared == 3), "{found:?}");
    }
}

/// If all share their tables, each costs its root, and three tables more are shared.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_an_address_space_that_shares_its_tables_costs_its_root() {
    let found = roots(6, true);
    let cheap = found.iter().filter(|[own, _]| *own == 1);
    assert_eq!(cheap.count(), 6, "{found:?}");
    let sharing = found.iter().filter(|of| **of == [1, 6]);
    assert_eq!(sharing.count(), 6, "{found:?}");
}
