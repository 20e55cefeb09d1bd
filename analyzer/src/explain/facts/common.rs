//! Facts that several explanations have.

use events::{Cause, Class, Gfn, Gpa, Gpte, Gva, Hpa, Level, Seq, TimeNs, VcpuId};
use serde::{Serialize, Serializer};
use trace::{EntryRow, FaultRow, HostRow, WriteRow};

/// Something that led to what is explained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Because {
    /// For programs.
    pub kind: &'static str,
    /// For people.
    pub text: String,
}

impl Because {
    pub fn new(kind: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

/// A fault, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FaultRef {
    /// Its number among the faults of its VM, from 0.
    #[serde(rename = "fault")]
    pub index: u64,
    pub seq: Seq,
    /// When it began.
    pub time_ns: TimeNs,
    pub vcpu: VcpuId,
    pub class: Class,
    pub gva: Gva,
    pub cr3: Gpa,
    /// The guest frame, where KVM found one.
    pub gfn: Option<Gfn>,
    /// When its leaf was stored, as far as its steps were timed; otherwise its end.
    pub stored_ns: TimeNs,
}

/// The host took a frame away, on the thread of a vCPU (an mmu-notifier): entries show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Invalidation {
    /// The entry that it emptied.
    pub seq: Seq,
    pub vcpu: VcpuId,
    /// Not before: the thread's latest moment that is known.
    pub from_ns: TimeNs,
    /// Not after.
    pub until_ns: TimeNs,
}

impl FaultRef {
    pub fn new(index: u64, row: &FaultRow) -> Self {
        Self {
            index,
            seq: row.seq,
            time_ns: row.time_ns,
            vcpu: row.vcpu,
            class: row.class,
            gva: row.gva,
            cr3: row.cr3,
            gfn: row.gpa.map(Gpa::gfn),
            stored_ns: stored_at(row),
        }
    }
}

/// When a fault's leaf was stored.
fn stored_at(row: &FaultRow) -> TimeNs {
    let steps = [
        row.exit_ns,
        row.walk_ns,
        row.pfn_ns,
        row.tables_ns,
        row.pfn_tables_ns,
    ];
    let before: u64 = steps.into_iter().flatten().fold(0, u64::saturating_add);
    let passed = match row.write_ns {
        Some(write) => before.saturating_add(write),
        None => row.total_ns,
    };
    TimeNs(row.time_ns.0.saturating_add(passed))
}

/// Who stored an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Writer {
    pub seq: Seq,
    pub time_ns: TimeNs,
    /// The vCPU on whose thread it was stored, if it was one.
    pub vcpu: Option<VcpuId>,
    #[serde(flatten)]
    pub by: StoredBy,
}

/// What stored an entry: a fault, as its leaf, or a change with its own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredBy {
    Fault(FaultRef),
    Cause(Cause),
}

impl Writer {
    pub fn of_entry(row: &EntryRow) -> Self {
        Self {
            seq: row.seq,
            time_ns: row.time_ns,
            vcpu: row.vcpu,
            by: StoredBy::Cause(row.cause),
        }
    }

    pub fn of_fault(fault: FaultRef) -> Self {
        Self {
            seq: fault.seq,
            time_ns: fault.stored_ns,
            vcpu: Some(fault.vcpu),
            by: StoredBy::Fault(fault),
        }
    }
}

/// A store of the guest's that KVM emulated, because the table is write-protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Store {
    /// Its record.
    pub seq: Seq,
    /// When.
    pub time_ns: TimeNs,
    /// Whose.
    pub vcpu: VcpuId,
    /// Where.
    pub gpa: Gpa,
    /// Its length.
    pub bytes: u32,
    /// The first eight bytes stored.
    #[serde(serialize_with = "hex")]
    pub value: u64,
    /// What was there before, where that is known.
    #[serde(serialize_with = "maybe_hex")]
    pub before: Option<u64>,
    /// Shadow entries that it made stale, so that KVM cleared them.
    pub cleared: Vec<EntryRow>,
}

impl Store {
    /// Of a record, and what was there before.
    pub fn new(row: &WriteRow, before: Option<u64>) -> Self {
        Self {
            seq: row.seq,
            time_ns: row.time_ns,
            vcpu: row.vcpu,
            gpa: row.gpa,
            bytes: row.bytes,
            value: row.value,
            before,
            cleared: Vec::new(),
        }
    }
}

/// Index of the entry at an address within its table, whose entries have so many bytes.
pub fn index_of(gpa: Gpa, gpte_bytes: u16) -> u16 {
    // An offset in a page has twelve bits.
    let offset = (gpa.0 & 0xfff) as u16;
    offset / gpte_bytes.max(1)
}

fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

fn maybe_hex<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// The guest entry that a shadow entry shadows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuestEntry {
    pub gpa: Gpa,
    pub index: u16,
    /// Its latest known value.
    #[serde(flatten)]
    pub known: Option<KnownGpte>,
    /// The value known before that one.
    pub before: Option<Gpte>,
}

/// A value of a guest entry, and what showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct KnownGpte {
    pub gpte: Gpte,
    pub known_from: GpteSource,
}

/// What showed the value of a guest entry: an emulated store, or the walk of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GpteSource {
    Store { seq: Seq, time_ns: TimeNs },
    Walk(FaultRef),
}

/// An address that an entry translates: the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Translation {
    pub gva: Gva,
    /// The root from which the entry is reached.
    pub root: Hpa,
    /// The guest's CR3 that this root was last used for.
    pub cr3: Option<Gpa>,
}

/// The addresses that an entry translates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Translations {
    #[serde(rename = "translates")]
    pub found: Vec<Translation>,
    /// There are more than are listed.
    #[serde(rename = "more_translations")]
    pub more: bool,
}

impl Translations {
    /// Whether an entry at `level` translates an address.
    pub fn contain(&self, gva: Gva, level: Level) -> bool {
        let bytes = level.pages() << 12;
        let mut starts = self.found.iter().map(|of| of.gva.0);
        starts.any(|start| gva.0.wrapping_sub(start) < bytes)
    }
}

/// Whether an act of the host concerns a frame.
pub fn covers(act: &HostRow, gfn: Gfn) -> bool {
    let offset = gfn.0.checked_sub(act.gfn.0);
    offset.is_some_and(|offset| offset < act.pages)
}
