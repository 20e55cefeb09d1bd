//! VMs that never ran: their records obey the rules of the shadow MMU, their numbers are made up.
//!
//! A guest maps a range, page by page: each page costs a guest fault (injected) and a
//! shadow fault. Between two passes KVM zaps the leaf tables, so that every page faults again.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small traces for tests"
)]

pub mod damage;
mod guest;
mod tape;

use std::path::Path;

use trace::{End, Meta, ProbeState, Tool, TraceError, TraceWriter, Tried, WorkloadMeta};

use guest::{Guest, Paging, RANGE};
use tape::Tape;

/// Counters of the VM.
const OF_VM: [&str; 3] = ["mmu_cache_miss", "mmu_shadow_zapped", "mmu_unsync"];
/// Those of a kernel that shows emulated stores.
const OF_VM_WITH_WRITES: [&str; 4] = [
    "mmu_cache_miss",
    "mmu_shadow_zapped",
    "mmu_unsync",
    "mmu_pte_write",
];
/// Counters of a vCPU.
const OF_VCPU: [&str; 6] = [
    "pf_taken",
    "pf_fixed",
    "pf_guest",
    "pf_emulate",
    "pf_spurious",
    "pf_fast",
];

/// Which VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vms {
    /// One, which the recorder runs from its first instruction on.
    Run,
    /// Two of one process that run already: the first with a vCPU that starts late, the second
    /// without paging, found late and gone before the end.
    Attached,
}

/// What is made up.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Which VMs.
    pub vms: Vms,
    /// Pages of the range.
    pub pages: u64,
    /// Times that the whole range faults.
    pub passes: u64,
    /// Records in a segment.
    pub segment: usize,
    /// The record of this shadow fault of the first VM, counted from 0, is lost on the way.
    pub lose: Option<u64>,
    /// The kernel's entry of this page of the first VM is for another frame at the last keyframe.
    pub drift: Option<u64>,
    /// The kernel cleared the entry of this page of the first VM before the last keyframe, unseen.
    pub late: Option<u64>,
    /// The recorder was killed before it wrote the end.
    pub cut: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            vms: Vms::Run,
            pages: 16,
            passes: 1,
            segment: 200_000,
            lose: None,
            drift: None,
            late: None,
            cut: false,
        }
    }
}

/// Makes the records.
#[derive(Debug)]
pub struct Maker {
    shape: Shape,
    tape: Tape,
    guests: Vec<Guest>,
    /// When the second VM ended.
    second_ended: Option<u64>,
}

impl Maker {
    /// Makes no record yet.
    pub fn new(shape: Shape) -> Self {
        let guests = match shape.vms {
            Vms::Run => vec![Guest::new(0, 1, Paging::Long)],
            Vms::Attached => vec![
                Guest::new(0, 4711, Paging::Long),
                Guest::new(1, 4711, Paging::Off),
            ],
        };
        Self {
            shape,
            tape: Tape::new(),
            guests,
            second_ended: None,
        }
    }

    /// Writes the whole trace.
    pub fn write(mut self, path: &Path) -> Result<(), TraceError> {
        if self.shape.vms == Vms::Attached {
            self.live_before();
        }
        let mut meta = self.meta();
        self.tape.writer = Some(TraceWriter::create(path, &meta)?);
        match self.shape.vms {
            Vms::Run => self.run()?,
            Vms::Attached => self.attached()?,
        }
        if let (Some(mut writer), false) = (self.tape.writer.take(), self.shape.cut) {
            writer.write(&self.tape.batch)?;
            meta.complete = true;
            meta.end = Some(End {
                time_ns: self.tape.time,
                reason: "done".to_owned(),
                records: self.tape.seq,
                segments: writer.segments(),
                rows: writer.rows(),
                programs: vec![],
            });
            let counters = self.counters();
            for (vm, guest) in meta.vms.iter_mut().zip(&self.guests) {
                vm.counters_after = Some(guest.counters(counters));
                if vm.vm == 1 {
                    vm.until_ns = self.second_ended;
                    vm.ended = Some("its process ended".to_owned());
                }
            }
            writer.meta_file().write(&meta)?;
        }
        Ok(())
    }

    fn counters(&self) -> (&'static [&'static str], &'static [&'static str]) {
        match self.shape.vms {
            Vms::Run => (&OF_VM, &OF_VCPU),
            Vms::Attached => (&OF_VM_WITH_WRITES, &OF_VCPU),
        }
    }

    fn run(&mut self) -> Result<(), TraceError> {
        let (tape, shape) = (&mut self.tape, self.shape);
        for guest in &mut self.guests {
            guest.mark(tape, "start");
            guest.keyframe(tape, 0);
            guest.start(tape);
            for pass in 0..shape.passes {
                guest.mark(tape, if pass == 0 { "touch" } else { "write" });
                for page in 0..shape.pages {
                    guest.touch(tape, &shape, page);
                    tape.flush_full(shape.segment)?;
                }
                if pass + 1 < shape.passes {
                    guest.zap_leaf_tables(tape);
                }
            }
            tape.flush()?;
            guest.unseen(&shape);
            guest.mark(tape, "done");
            guest.keyframe(tape, 1);
        }
        Ok(())
    }

    /// What the VMs did before the recording.
    fn live_before(&mut self) {
        let counters = self.counters();
        self.tape.is_off = true;
        for guest in &mut self.guests {
            guest.start(&mut self.tape);
            for page in 0..self.shape.pages / 2 {
                guest.touch(&mut self.tape, &self.shape, page);
            }
            guest.found_running(counters);
        }
        self.tape.is_off = false;
    }

    fn attached(&mut self) -> Result<(), TraceError> {
        let (tape, shape) = (&mut self.tape, self.shape);
        let [first, second] = self.guests.as_mut_slice() else {
            return Ok(());
        };
        let half = shape.pages / 2;
        for pass in 0..shape.passes {
            if pass == 0 {
                first.see_root(tape, events::Level(4));
                // Seen before the tables are known.
                first.touch(tape, &shape, half);
                first.keyframe(tape, 0);
                first.unmap(tape, 0);
                first.touch(tape, &shape, 0);
            }
            for page in half + 1..shape.pages {
                let late = page >= half + half / 2;
                first.vcpu.0 = u16::from(late && page.is_multiple_of(2));
                first.touch(tape, &shape, page);
                if pass == 0 && page == half + 2 {
                    second.see_root(tape, events::Level(3));
                    second.keyframe(tape, 0);
                }
                if page > half + 2 && page < shape.pages - 2 {
                    second.touch(tape, &shape, page);
                }
                tape.flush_full(shape.segment)?;
            }
            if pass + 1 < shape.passes {
                first.zap_leaf_tables(tape);
            }
        }
        second.keyframe(tape, 1);
        self.second_ended = Some(tape.time);
        first.vcpu.0 = 0;
        first.store(tape, 0, 0x4_0067);
        first.store(tape, 0, 0x10_0067);
        first.touch(tape, &shape, 0);
        first.unseen(&shape);
        first.keyframe(tape, 1);
        tape.flush()
    }

    fn meta(&self) -> Meta {
        let attached = self.shape.vms == Vms::Attached;
        Meta {
            schema: trace::SCHEMA_VERSION,
            tool: Tool {
                name: "synthetic".to_owned(),
                version: "0".to_owned(),
            },
            command: vec!["synthetic".to_owned()],
            started_ns: self.tape.time,
            clock: "CLOCK_MONOTONIC".to_owned(),
            probes: if attached {
                probes_of_attach()
            } else {
                probes_of_run()
            },
            role: [("level", [0, 4]), ("direct", [8, 1]), ("invalid", [12, 1])]
                .map(|(name, place)| (name.to_owned(), place))
                .into(),
            vms: self.guests.iter().map(Guest::meta).collect(),
            workload: (!attached).then(|| WorkloadMeta {
                name: "made-up".to_owned(),
                params: [("pages".to_owned(), self.shape.pages.to_string())].into(),
                range_gva: RANGE,
                range_pages: self.shape.pages,
                expected_guest_faults: Some(self.shape.pages * self.shape.passes),
                expected_shadow_faults: Some(self.shape.pages * self.shape.passes),
                ..WorkloadMeta::default()
            }),
            ..Meta::default()
        }
    }
}

fn probe(name: &str, attached: bool, note: &str) -> ProbeState {
    ProbeState {
        name: name.to_owned(),
        hook: format!("raw tracepoint {name}"),
        attached,
        note: note.to_owned(),
        tried: Vec::new(),
    }
}

fn probes_of_run() -> Vec<ProbeState> {
    vec![
        probe("kvm_mmu_set_spte", true, "leaf SPTEs"),
        probe("kvm_exit", false, "not called on this made-up host"),
    ]
}

fn probes_of_attach() -> Vec<ProbeState> {
    let tried = |hook: &str, refused: &str| Tried {
        hook: hook.to_owned(),
        refused: refused.to_owned(),
    };
    let refused = "made-up refusal";
    vec![
        probe("kvm_mmu_set_spte", true, "leaf SPTEs"),
        ProbeState {
            hook: "kretprobe kvm_mmu_pte_write, kprobe kvm_mmu_pte_write".to_owned(),
            tried: vec![tried(
                "kretprobe kvm_mmu_track_write, kprobe kvm_mmu_track_write",
                "no such function",
            )],
            ..probe("kvm_mmu_track_write", true, "the guest's stores")
        },
        ProbeState {
            hook: "kretprobe kvm_mmu_faultin_pfn".to_owned(),
            tried: vec![
                tried("kretprobe kvm_mmu_faultin_pfn", refused),
                tried("kretprobe kvm_faultin_pfn", "no such function"),
            ],
            ..probe(
                "kvm_mmu_faultin_pfn",
                false,
                "made-up refusal; pfn_tables_ns is what the two would split",
            )
        },
        ProbeState {
            tried: vec![tried("kprobe hva_to_pfn", refused)],
            ..probe("hva_to_pfn", false, "made-up refusal; hva_ns is absent")
        },
        probe(
            "kvm_exit",
            false,
            "not called on this made-up host; no round trip",
        ),
    ]
}
