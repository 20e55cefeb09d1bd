//! `meta.json`: what was recorded, where, and how.

use std::collections::BTreeMap;

use events::RoleLayout;
use serde::{Deserialize, Serialize};

/// Version of the schema. Additive changes keep it.
pub const SCHEMA_VERSION: u32 = 1;

/// The whole of `meta.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// See [`SCHEMA_VERSION`].
    pub schema: u32,
    /// What recorded.
    pub tool: Tool,
    /// Command line of the recording.
    pub command: Vec<String>,
    /// Start of the recording, seconds of the Unix epoch.
    pub started_unix_s: u64,
    /// The part of a second after that, ns; a number of all ns would be rounded by many readers of
    /// JSON. Null in a trace of a recorder that did not keep it.
    #[serde(default)]
    pub started_unix_subsec_ns: Option<u32>,
    /// The same moment on the trace's clock, ns.
    pub started_ns: u64,
    /// Clock of every `time_ns`.
    pub clock: String,
    /// True once the recorder has finished: a trace with `false` was cut.
    pub complete: bool,
    /// The machine.
    pub host: Host,
    /// What the recording sees; null in a trace of a recorder that did not say. Ask [`Meta::sees`].
    #[serde(default)]
    pub sees: Option<Sees>,
    /// Every probe considered, and what became of it.
    pub probes: Vec<ProbeState>,
    /// Kernel fields and their byte offsets; null where this kernel has none.
    pub offsets: BTreeMap<String, Option<u32>>,
    /// Where the fields of a role word are: lowest bit, width.
    pub role: BTreeMap<String, [u8; 2]>,
    /// The VMs.
    pub vms: Vec<VmMeta>,
    /// The workload, if the collector's own VMM ran one.
    pub workload: Option<WorkloadMeta>,
    /// Size of the ring buffer, bytes.
    pub ring_bytes: u64,
    /// How the recording ended; null in a trace that was cut.
    pub end: Option<End>,
    /// Of a recording that kept only its last part; null where everything was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// Of a trace that was not recorded, but made from the kernel's own trace text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
}

impl Meta {
    /// Where the trace begins, if records before it were dropped.
    pub fn begin(&self) -> Option<Begin> {
        self.kept.as_ref().and_then(|kept| kept.begin)
    }

    /// What the recording sees. Recorders before version 0.2 did not say: for their traces it
    /// follows from the probes that were attached, from who made the VM, and from the processor.
    pub fn sees(&self) -> Sees {
        let attached = |name: &str| {
            self.probes
                .iter()
                .any(|probe| probe.attached && probe.name == name)
        };
        self.sees.unwrap_or_else(|| Sees {
            every_change: attached("mmu_spte_update"),
            stores: match attached("kvm_mmu_track_write") {
                true => Stores::All,
                false => Stores::ToTables,
            },
            from_birth: self.workload.is_some(),
            emulated: self.host.cpu.contains("QEMU TCG"),
            keyframe_roots: false,
            acts: false,
        })
    }

    /// The layout of role words, zero widths where unknown.
    pub fn role_layout(&self) -> RoleLayout {
        let field = |name: &str| self.role.get(name).copied().unwrap_or_default();
        RoleLayout {
            level: field("level"),
            direct: field("direct"),
            access: field("access"),
            invalid: field("invalid"),
            four_bytes: field("has_4_byte_gpte"),
            quadrant: field("quadrant"),
        }
    }
}

/// What a recording sees: the contract between the recorder and whoever reads the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sees {
    /// Each SPTE that changes outside of a fault has a record, at the change. If false, such a
    /// change is found by reading the entry again later, or by the next keyframe.
    pub every_change: bool,
    /// Which of the guest's emulated stores have a record in `writes`.
    pub stores: Stores,
    /// Every VM was traced from before its first entry, when it had no shadow page.
    pub from_birth: bool,
    /// The machine is emulated by software: its times are not those of hardware.
    pub emulated: bool,
    /// Each keyframe has the root of every vCPU, in `roots`, so that replay can begin with it.
    #[serde(default)]
    pub keyframe_roots: bool,
    /// What KVM does to the tables in one piece has a record with its time, in `acts`: every
    /// kind of act has its probe. An act whose return the kernel missed has no row.
    #[serde(default)]
    pub acts: bool,
}

/// Which of the guest's emulated stores a recording sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stores {
    /// All of them.
    All,
    /// Those to shadowed tables.
    ToTables,
}

/// The recording program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The traced machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -v`.
    pub kernel_version: String,
    /// Model name of the processor.
    pub cpu: String,
    /// Processors online.
    pub cpus: u32,
    /// `kvm_pvm`, `kvm_intel`, `kvm_amd` or `unknown`.
    pub hypervisor: String,
    /// Parameters of the kvm modules that decide what is seen (`tdp_mmu`, `ept`, `npt`,
    /// `mmio_caching`, ...).
    pub parameters: BTreeMap<String, String>,
    /// Lockdown mode in force.
    pub lockdown: String,
}

/// One probe of the plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeState {
    /// Name of the step or change that it shows.
    pub name: String,
    /// What it hooks, e.g. `raw tracepoint kvm_mmu_set_spte`; of one that is not there, the first
    /// choice.
    pub hook: String,
    /// Whether it records.
    pub attached: bool,
    /// What it shows, or why it is not there.
    pub note: String,
    /// What was tried before and refused.
    #[serde(default)]
    pub tried: Vec<Tried>,
}

/// A hook that this kernel does not grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The hook, e.g. `kretprobe kvm_mmu_faultin_pfn`.
    pub hook: String,
    /// What the kernel said.
    pub refused: String,
}

/// Whose tables KVM shadows, which decides what the addresses of a recording are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The guest's page tables: column `gva` holds guest-virtual addresses, `cr3` the guest's CR3.
    #[default]
    Shadow,
    /// The nested page tables (AMD's NPT) that a guest hypervisor, L1, keeps for its guest, L2:
    /// column `gva` holds physical addresses of L2, `gpa` those of L1, `cr3` L1's nested CR3.
    NestedNpt,
    /// The same with Intel's EPT, `cr3` being L1's EPT pointer.
    NestedEpt,
}

impl Mode {
    /// Whether the tables are those of nested guests.
    pub fn is_nested(self) -> bool {
        self != Self::Shadow
    }
}

/// A traced VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VmMeta {
    /// Number in `vm` columns.
    pub vm: u16,
    /// Process of the VMM.
    pub pid: u32,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Whose tables are shadowed.
    #[serde(default)]
    pub mode: Mode,
    /// Ids of its vCPUs.
    pub vcpus: Vec<u16>,
    /// Its memory, from the start unless `from_ns` says later.
    pub memslots: Vec<Memslot>,
    /// From one look at them to the next, where some changed in between: what a slot was meanwhile
    /// is not known, even one that was the same at both. On the trace's clock, ns.
    #[serde(default)]
    pub memslots_changed: Vec<[u64; 2]>,
    /// When tracing it began, on the trace's clock, ns.
    #[serde(default)]
    pub from_ns: u64,
    /// When it ended, if it ended before the recording did.
    #[serde(default)]
    pub until_ns: Option<u64>,
    /// Why it ended, if it did.
    #[serde(default)]
    pub ended: Option<String>,
    /// KVM's counters when tracing began, or later: see `counters_seq`.
    pub counters_before: Counters,
    /// The number that the next record got when `counters_before` were read, the vCPUs stopped: they
    /// count what came from there on. Null where that is every record of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters_seq: Option<u64>,
    /// KVM's counters when it ended; null in a trace that was cut.
    pub counters_after: Option<Counters>,
}

/// A memslot: which HVA backs which GPA.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memslot {
    /// Slot id.
    pub slot: u16,
    /// First GPA.
    pub gpa: u64,
    /// Length, bytes.
    pub bytes: u64,
    /// HVA of the first byte.
    pub hva: u64,
    /// Since when, on the trace's clock, ns.
    pub from_ns: u64,
    /// Until when it is known to have been there, if it went.
    #[serde(default)]
    pub until_ns: Option<u64>,
}

/// KVM's own counters, named as `KVM_GET_STATS_FD` names them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Of the VM.
    pub vm: BTreeMap<String, u64>,
    /// Of each vCPU, in the order of `VmMeta::vcpus`.
    pub vcpus: Vec<BTreeMap<String, u64>>,
}

/// The workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkloadMeta {
    /// Its name in the catalogue.
    pub name: String,
    /// Its parameters, all of them.
    pub params: BTreeMap<String, String>,
    /// First GVA of the range it works on.
    pub range_gva: u64,
    /// Length of that range, 4 KiB pages.
    pub range_pages: u64,
    /// Guest's own faults in the range that theory gives, as the following: absent where chance
    /// or the host decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_guest_faults: Option<u64>,
    /// Shadow faults in the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_shadow_faults: Option<u64>,
    /// Retried faults in the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_retried_faults: Option<u64>,
    /// Shadow pages below the roots that translate the range, at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_shadow_pages: Option<u64>,
    /// Leaf entries in them, at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_entries: Option<u64>,
    /// What the guest's own clock says of its accesses to the range; null in a trace that was
    /// cut, and of a recorder that did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touches: Option<Touches>,
    /// Times of the operation of `micro`; null for other workloads, and in a trace that was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro: Option<Micro>,
}

/// Accesses of the guest to the range, timed by the guest with its time-stamp counter. The guest
/// says so: nothing here is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touches {
    /// Frequency of that counter, kHz; null where KVM does not know it.
    pub tsc_khz: Option<u32>,
    /// Those of each vCPU, in the order of their ids.
    pub vcpus: Vec<VcpuTouches>,
}

/// Accesses of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuTouches {
    /// How many.
    pub count: u64,
    /// Their time, cycles.
    pub cycles: u64,
    /// The longest, cycles.
    pub max_cycles: u64,
    /// How many took at least `2^n` and fewer than `2^(n+1)` cycles, for each `n` from 0; zeros at
    /// the end are left out. The first counts 0 cycles too.
    pub log2_cycles: Vec<u64>,
}

/// One operation, timed in batches by the guest with its time-stamp counter. The guest says so:
/// nothing here is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Micro {
    /// The operation.
    pub op: String,
    /// Operations in all.
    pub count: u64,
    /// Their time, cycles: that of all batches.
    pub cycles: u64,
    /// Operations of a batch.
    pub batch: u64,
    /// Shortest time of a batch that leaves out the operations, cycles.
    pub empty_cycles: u64,
    /// Time of each batch, cycles, in their order.
    pub batch_cycles: Vec<u64>,
    /// Frequency of the counter, kHz; null where KVM does not know it.
    pub tsc_khz: Option<u32>,
}

impl Micro {
    /// Lowest quartile, median and highest quartile of the batches: the time of one operation in
    /// ns, without that of an empty batch. `None` without batches or frequency.
    pub fn quartiles_ns(&self) -> Option<[f64; 3]> {
        let khz = f64::from(self.tsc_khz.filter(|khz| *khz > 0)?);
        let batch = self.batch.max(1) as f64;
        let mut cycles = self.batch_cycles.clone();
        cycles.sort_unstable();
        let last = cycles.len().checked_sub(1)?;
        let ns = |quarter: usize| {
            // Between two batches the value lies in proportion.
            let (place, part) = (last * quarter / 4, (last * quarter % 4) as f64 / 4.0);
            let own = |place: usize| {
                let cycles = cycles.get(place.min(last)).copied().unwrap_or_default();
                cycles.saturating_sub(self.empty_cycles) as f64
            };
            let between = own(place) * (1.0 - part) + own(place + 1) * part;
            between / batch * 1e6 / khz
        };
        Some([ns(1), ns(2), ns(3)])
    }
}

/// What a trace was made from. It has faults and entries, and no links, keyframes or counters; `cr3`
/// and `root` of its faults are 0, since the text has neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Lines of the text.
    pub lines: u64,
    /// Events of KVM in it, by their names.
    pub events: BTreeMap<String, u64>,
    /// Faults without a row: the text does not show what became of them, or their address.
    pub unclassified: u64,
}

/// What a recording kept of itself: its last part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// How much time it kept at least, ns, unless `limit_bytes` came first.
    pub keep_ns: u64,
    /// Bytes of segments that it kept at most.
    pub limit_bytes: u64,
    /// Where the trace begins; null while nothing was dropped.
    pub begin: Option<Begin>,
    /// What was dropped before.
    pub dropped: Dropped,
    /// What it waited for; null where that did not come, or was not asked for.
    pub event: Option<Event>,
    /// How long it recorded on after the event, ns; before the event, how long it would.
    pub after_ns: u64,
}

/// The beginning of a trace whose earlier records were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// First sequence number. Rows with lower ones may still be in the first segments: some of
    /// their time are missing, so that a reader leaves them out.
    pub seq: u64,
    /// When, on the trace's clock, ns.
    pub time_ns: u64,
    /// A keyframe of every VM comes first. Else `limit_bytes` was too little for one.
    pub keyframe: bool,
}

/// Segments that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many.
    pub segments: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a recording waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `signal`, or the name of a pathology: `live_lock`, `zap_storm`.
    pub on: String,
    /// When, on the trace's clock, ns.
    pub time_ns: u64,
    /// Its VM; null for a signal.
    pub vm: Option<u16>,
    /// The record that shows it; null for a signal.
    pub seq: Option<u64>,
    /// What was seen, in words.
    pub what: String,
}

/// How a recording ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When, on the trace's clock, ns.
    pub time_ns: u64,
    /// Why: `done`, `timeout`, `interrupted`, or the error.
    pub reason: String,
    /// Records made, lost ones included (the last sequence number + 1).
    pub records: u64,
    /// Segments written; the list must name as many.
    pub segments: u64,
    /// Rows in them.
    pub rows: u64,
    /// Cost of the probes by the kernel's own measure, where `kernel.bpf_stats_enabled` was on.
    pub programs: Vec<ProgramCost>,
}

/// What the kernel measured of one program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgramCost {
    /// Name of the program.
    pub name: String,
    /// Times it ran.
    pub runs: u64,
    /// Time in it, ns.
    pub ns: u64,
}
