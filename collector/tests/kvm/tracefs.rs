//! The trace counts what the kernel's own trace buffer counts.

use std::{fs, os::unix::process::CommandExt as _, process};

use crate::support::{
    collector, folder, json, run,
    tracefs::{Counted, Instance},
};

#[test]
#[ignore = "needs root, tracefs and a shadow MMU (/dev/kvm)"]
fn kvm_tracefs_counts_the_same_in_the_same_run() {
    let events = [
        "kvm_mmu_spte_requested",
        "kvm_mmu_set_spte",
        "kvm_mmu_get_page",
        "kvm_mmu_walker_error",
    ];
    for args in [["linear", "pages=4096"], ["demand", "pages=2048"]] {
        let instance = Instance::new();
        for event in events {
            instance.write(&format!("events/kvmmmu/{event}/enable"), "1");
        }
        let folder = folder();
        let trace = folder.path().join("w.trace");
        let pids = instance.pids();
        let mut command = collector();
        command
            .args(["run", args[0], "-p", args[1], "--json", "-o"])
            .arg(&trace);
        // SAFETY: between fork and exec only a file is written, and nothing is allocated that
        // another thread could hold a lock of: the child of a test that has one other thread.
        unsafe { command.pre_exec(move || fs::write(&pids, process::id().to_string())) };
        let outcome = json(&run(&mut command));
        assert_eq!(outcome["recorded"]["lost"], 0);
        assert_eq!(instance.overruns(), 0, "tracefs kept everything");

        let counted = Counted::of(&trace);
        assert_eq!(
            instance.count("kvm_mmu_spte_requested", counted.process),
            counted.requested,
            "{args:?}"
        );
        assert_eq!(
            instance.count("kvm_mmu_walker_error", counted.process),
            counted.refused,
            "{args:?}"
        );
        assert_eq!(
            instance.count("kvm_mmu_set_spte", counted.process),
            counted.stored,
            "{args:?}"
        );
        assert_eq!(
            instance.count("kvm_mmu_get_page", counted.process),
            counted.got,
            "{args:?}"
        );
    }
}
