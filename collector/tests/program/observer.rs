//! An observer that shares nothing with the probes: the kernel's own trace buffer.

use std::{fs, os::unix::process::CommandExt as _, path::PathBuf, process};

use crate::support::{collector, folder, json};

/// A tracefs instance of its own, removed at the end.
struct Instance(PathBuf);

impl Instance {
    fn new() -> Self {
        let root = PathBuf::from("/sys/kernel/tracing");
        if !root.join("events").exists() {
            let status = process::Command::new("mount").args(["-t", "tracefs", "none"]).arg(&root).status();
            assert!(status.is_ok_and(|status| status.success()), "tracefs can be mounted");
        }
        let path = root.join("instances").join(format!("shadowscope-test-{}", process::id()));
        fs::create_dir(&path).expect("a tracefs instance");
        let instance = Self(path);
        instance.write("buffer_size_kb", "65536");
        instance.write("options/event-fork", "1");
        instance
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    fn count(&self, event: &str) -> usize {
        let text = fs::read_to_string(self.0.join("trace")).expect("the buffer");
        let needle = format!(" {event}: ");
        text.lines().filter(|line| line.contains(&needle)).count()
    }

    fn overruns(&self) -> u64 {
        let cpus = fs::read_dir(self.0.join("per_cpu")).expect("CPUs");
        let stats = cpus.map(|cpu| fs::read_to_string(cpu.expect("a CPU").path().join("stats")).expect("stats"));
        stats
            .flat_map(|text| {
                let number = |line: &str| line.strip_prefix("overrun: ")?.trim().parse().ok();
                text.lines().filter_map(number).collect::<Vec<u64>>()
            })
            .sum()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.write("tracing_on", "0");
        self.write("events/enable", "0");
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
#[ignore = "needs root, tracefs and a shadow MMU (/dev/kvm)"]
fn kvm_tracefs_counts_the_same_in_the_same_run() {
    let events =
        ["kvm_mmu_spte_requested", "kvm_mmu_set_spte", "kvm_mmu_get_page", "kvm_mmu_walker_error", "kvm_mmu_prepare_zap_page"];
    for args in [["linear", "pages=4096"], ["demand", "pages=2048"]] {
        let instance = Instance::new();
        for event in events {
            instance.write(&format!("events/kvmmmu/{event}/enable"), "1");
        }
        let folder = folder();
        let trace = folder.path().join("w.trace");
        let pids = instance.0.join("set_event_pid");
        let mut command = collector();
        command.args(["run", args[0], "-p", args[1], "--json", "-o"]).arg(&trace);
        // SAFETY: between fork and exec only a file is written, and nothing is allocated that
        // another thread could hold a lock of: the child of a test that has one other thread.
        unsafe { command.pre_exec(move || fs::write(&pids, process::id().to_string())) };
        let outcome = json(&crate::support::run(&mut command));
        assert_eq!(outcome["recorded"]["lost"], 0);
        assert_eq!(instance.overruns(), 0, "tracefs kept everything");

        let summary = crate::support::analyze("summary", &trace);
        let vm = &summary["vms"][0];
        let class = |name: &str| vm["classes"][name]["count"].as_u64().unwrap_or(0) as usize;
        let records = |kind: &str, what: &str| vm["records"][kind][what].as_u64().unwrap_or(0) as usize;
        let mapped = class("shadow") + class("unsync") + class("mmio") + class("spurious");
        assert_eq!(instance.count("kvm_mmu_spte_requested"), mapped, "{args:?}");
        assert_eq!(instance.count("kvm_mmu_walker_error"), class("guest"), "{args:?}");
        let stored = class("shadow") + class("unsync") + records("entries", "prefetch") + records("entries", "other");
        assert_eq!(instance.count("kvm_mmu_set_spte"), stored, "{args:?}");
        let got = records("pages", "born") + records("pages", "reused");
        assert_eq!(instance.count("kvm_mmu_get_page"), got, "{args:?}");
    }
}
