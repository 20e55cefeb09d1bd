//! An observer that shares nothing with the probes: the kernel's own trace buffer.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use events::{Cause, Class, PageEvent};
use trace::{Record, Trace};

use crate::support::{collector, folder, json, run};

/// A tracefs instance of its own, removed at the end.
pub struct Instance(PathBuf);

impl Instance {
    pub fn new() -> Self {
        let root = PathBuf::from("/sys/kernel/tracing");
        if !root.join("events").exists() {
            let status = process::Command::new("mount")
                .args(["-t", "tracefs", "none"])
                .arg(&root)
                .status();
            assert!(
                status.is_ok_and(|status| status.success()),
                "tracefs can be mounted"
            );
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root
            .join("instances")
            .join(format!("shadowscope-test-{}-{number}", process::id()));
        fs::create_dir(&path).expect("a tracefs instance");
        let instance = Self(path);
        instance.write("buffer_size_kb", "65536");
        instance.write("options/event-fork", "1");
        instance.write("options/record-tgid", "1");
        instance
    }

    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// Events of one process. The kernel's own filter by process lets others through around a
    /// switch of tasks, so each line is asked whose it is.
    pub fn count(&self, event: &str, process: u32) -> u64 {
        let text = fs::read_to_string(self.0.join("trace")).expect("the buffer");
        let (event, process) = (format!(" {event}: "), format!("({process:>7})"));
        let lines = text.lines();
        lines.fold(0, |count, line| {
            count + u64::from(line.contains(&event) && line.contains(&process))
        })
    }

    pub fn overruns(&self) -> u64 {
        let cpus = fs::read_dir(self.0.join("per_cpu")).expect("CPUs");
        let stats = cpus.map(|cpu| {
            fs::read_to_string(cpu.expect("a CPU").path().join("stats")).expect("stats")
        });
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
        let pids = instance.0.join("set_event_pid");
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

/// `PFERR_RSVD_MASK`.
const PFERR_RSVD: u32 = 1 << 3;

/// What the trace has of each event.
#[derive(Debug, Default)]
pub struct Counted {
    /// The collector's own process.
    pub process: u32,
    /// Faults.
    pub faults: u64,
    /// `kvm_mmu_spte_requested`.
    pub requested: u64,
    /// `kvm_mmu_walker_error`.
    pub refused: u64,
    /// `kvm_mmu_set_spte`.
    pub stored: u64,
    /// `kvm_mmu_get_page`.
    pub got: u64,
    /// `kvm_mmu_prepare_zap_page`. The last ones come when the VM is closed and are not recorded.
    pub zapped: u64,
}

impl Counted {
    pub fn of(path: &Path) -> Self {
        let mut counted = Self::default();
        let trace = Trace::open(path).expect("a trace");
        counted.process = trace.meta().vms[0].pid;
        for record in trace.records() {
            match record.expect("a whole trace") {
                Record::Fault(fault) => {
                    counted.faults += 1;
                    // At a marker for MMIO KVM emulates without asking for an entry.
                    let requested = fault.gpa.is_some() && fault.error_code & PFERR_RSVD == 0;
                    counted.requested += u64::from(requested);
                    counted.refused += u64::from(fault.class == Class::Guest);
                    counted.stored += u64::from(fault.spte.is_some());
                }
                Record::Entry(entry) => {
                    // The event names the guest's frame, and not what stood there before.
                    let stored = entry.gfn.is_some() && entry.old.is_none();
                    counted.stored += u64::from(stored && entry.cause != Cause::Mmio);
                }
                Record::Page(page) => match page.event {
                    PageEvent::Born | PageEvent::Reused => counted.got += 1,
                    PageEvent::Zapped => counted.zapped += 1,
                    PageEvent::Unsync | PageEvent::Sync => {}
                },
                _ => {}
            }
        }
        counted
    }
}
