//! The kernel's own trace buffer: an observer that shares nothing with the probes.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use events::{Cause, Class, PageEvent};
use trace::{Record, Trace};

/// A separate tracefs instance, removed at the end.
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

    /// The file that names the processes to follow.
    pub fn pids(&self) -> PathBuf {
        self.0.join("set_event_pid")
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

    /// The faults of a process at CPL 3, from its events `kvm_mmu_pagetable_walk` (those for user
    /// accesses), `kvm_mmu_walker_error`, `kvm_inj_exception`, `kvm_mmu_spte_requested` and
    /// `kvm_mmu_set_spte`.
    pub fn faults(&self, process: u32) -> Vec<Timed> {
        let text = fs::read_to_string(self.0.join("trace")).expect("the buffer");
        let process = format!("({process:>7})");
        let lines = text.lines().filter(|line| line.contains(&process));
        let (mut walk, mut faults) = (None, Vec::new());
        let (mut refused, mut requested) = (false, false);
        for line in lines {
            let (head, event) = line.split_once(": kvm_").expect("an event of KVM");
            let (event, arguments) = event.split_once(": ").expect("its name");
            let time = head.split_whitespace().next_back().expect("a time");
            let time: u64 = time.parse().expect("a number");
            let is_end = match event {
                "mmu_pagetable_walk" => {
                    let gva = arguments.split_whitespace().nth(1).expect("an address");
                    walk = Some((u64::from_str_radix(gva, 16).expect("an address"), time));
                    (refused, requested) = (false, false);
                    false
                }
                "mmu_spte_requested" => {
                    requested = true;
                    false
                }
                "mmu_walker_error" => {
                    refused = true;
                    false
                }
                // Neighbours are stored after the leaf.
                "mmu_set_spte" => std::mem::take(&mut requested),
                "inj_exception" => std::mem::take(&mut refused),
                other => panic!("kvm_{other}"),
            };
            if is_end && let Some((gva, begun)) = walk.take() {
                faults.push(Timed {
                    gva,
                    is_stored: event == "mmu_set_spte",
                    cycles: time - begun,
                });
            }
        }
        faults
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

/// A fault as the events have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    pub gva: u64,
    /// It ended with the store of a leaf; else with its injection into the guest.
    pub is_stored: bool,
    /// From the beginning of the walk to that, in the units of the buffer's clock.
    pub cycles: u64,
}

/// How fast this machine's time-stamp counter runs, measured over a run.
pub struct TscRate {
    cycles: u64,
    since: Instant,
}

impl TscRate {
    pub fn begin() -> Self {
        Self {
            cycles: tsc(),
            since: Instant::now(),
        }
    }

    pub fn end(self) -> Rate {
        let cycles = tsc() - self.cycles;
        Rate {
            cycles,
            ns: self.since.elapsed().as_nanos(),
        }
    }
}

/// Cycles and the time that they took.
pub struct Rate {
    cycles: u64,
    ns: u128,
}

impl Rate {
    pub fn ns(&self, cycles: u64) -> u64 {
        let ns = u128::from(cycles) * self.ns / u128::from(self.cycles);
        u64::try_from(ns).expect("a short time")
    }
}

fn tsc() -> u64 {
    // SAFETY: RDTSC reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.write("tracing_on", "0");
        self.write("events/enable", "0");
        let _ = fs::remove_dir(&self.0);
    }
}

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
                    let requested = fault.gpa.is_some() && !fault.error_code.is_reserved();
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
