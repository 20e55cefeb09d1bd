//! One fault, told as the five steps from a guest address to a shadow entry.

mod find;
mod guest;
mod stores;
mod text;

use events::{Class, Gpa, Gva, Hpa, Level, PageEvent, Spte};
use serde::Serialize;
use trace::{EntryRow, FaultRow, TraceError, VmMeta};

use crate::{
    faults::{FaultStep, memslot},
    replay::Walk,
};

pub use find::{Selector, find};
pub use guest::GuestStep;
pub use stores::{Cleared, Store};
pub use text::{meaning, text};

/// Why a fault could not be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// There is none.
    #[error(
        "no such fault: {wanted}; of the VM's {faults} faults {matching} would match without the number"
    )]
    NoSuchFault {
        /// What was asked for.
        wanted: String,
        /// Faults of the VM.
        faults: u64,
        /// Those that match but for their number.
        matching: u64,
    },
    /// The trace could not be read that far.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// A fault with all that surrounds it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its number among the faults of its VM, from 0.
    pub index: u64,
    /// Its record.
    pub fault: FaultRow,
    /// First time of the trace, ns.
    pub start_ns: u64,
    /// Its VM.
    pub vm: Option<VmMeta>,
    /// The way of its address through the shadow tables just after it.
    pub shadow: Walk,
    /// What happened to shadow pages since the fault before on its vCPU.
    pub on_the_way: Vec<PageChange>,
    /// Shadow pages of the guest frame, if it is a shadowed guest table.
    pub shadows_of_frame: Vec<(Hpa, Level, bool)>,
    /// The guest ran without paging: no entry of its own was read, and the leaf is in a direct table.
    pub is_unpaged: bool,
    /// The emulated store that the fault is about: one to a protected table.
    pub store: Option<Store>,
    /// The latest emulated stores to the guest entries of the walk, by level.
    pub stores: Vec<(Level, Store)>,
    /// The record that emptied the fault's entry before it.
    pub emptied: Option<EntryRow>,
    /// What came next.
    pub followed: Vec<Followed>,
    /// Missing records since the tables were last known to be right.
    pub missing: u64,
}

/// An event in the life of a shadow page, on the way of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PageChange {
    /// What happened.
    #[serde(serialize_with = "event_name")]
    pub event: PageEvent,
    /// The page.
    #[serde(serialize_with = "hpa")]
    pub spt: Hpa,
    /// The guest table it shadows, as a frame number.
    pub gfn: u64,
    /// Its level.
    pub level: u8,
    /// No guest table behind it.
    pub direct: bool,
}

/// Something that came after the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// A neighbour was mapped ahead.
    Prefetched {
        /// Where its entry stands.
        place: Hpa,
        /// The entry.
        spte: Spte,
        /// The address it translates, if its table is the fault's.
        gva: Option<Gva>,
    },
    /// A later fault in the same 2 MiB.
    Fault {
        /// Its number.
        index: u64,
        /// Its class.
        class: Class,
        /// Its address.
        gva: Gva,
        /// Time since the explained fault, ns.
        after_ns: u64,
    },
}

impl Explanation {
    /// The guest entries that were recorded, from the highest level down.
    pub fn guest_walk(&self) -> Vec<GuestStep> {
        guest::guest_walk(&self.fault)
    }

    /// Where the access goes: as KVM found it, or as the guest's entries say.
    pub fn gpa(&self) -> Option<Gpa> {
        guest::gpa(&self.fault)
    }

    /// HVA by the memslot: slot's HVA plus the offset of the GPA.
    pub fn hva_by_slot(&self) -> Option<(trace::Memslot, u64)> {
        let slot = memslot(&self.fault, self.vm.as_ref()?)?;
        let gpa = self.fault.gpa?;
        Some((
            slot.clone(),
            gpa.0.wrapping_sub(slot.gpa).wrapping_add(slot.hva),
        ))
    }

    /// Times of the steps that the trace has, ns.
    pub fn times(&self) -> Vec<(&'static str, u32)> {
        FaultStep::ALL
            .into_iter()
            .filter_map(|step| Some((step.name(), step.of(&self.fault)?)))
            .collect()
    }

    /// As JSON; an absent number is left out.
    pub fn json(&self) -> serde_json::Value {
        let row = &self.fault;
        let guest: Vec<_> = self
            .guest_walk()
            .iter()
            .map(|step| {
                serde_json::json!({
                    "level": step.level.0, "table_gpa": step.table.map(|table| table.0), "index": step.index, "gpte": step.gpte.0,
                })
            })
            .collect();
        let shadow: Vec<_> = self
            .shadow
            .steps
            .iter()
            .map(|step| {
                serde_json::json!({
                    "level": step.level.0, "spt": step.spt.0, "index": step.index, "spte": step.spte.0,
                })
            })
            .collect();
        let followed: Vec<_> = self
            .followed
            .iter()
            .map(|next| match next {
                Followed::Prefetched { place, spte, gva } => serde_json::json!({
                    "prefetched": {"sptep": place.0, "spte": spte.0, "gva": gva.map(|gva| gva.0)},
                }),
                Followed::Fault { index, class, gva, after_ns } => serde_json::json!({
                    "fault": {"index": index, "class": class.name(), "gva": gva.0, "after_ns": after_ns},
                }),
            })
            .collect();
        let times: serde_json::Map<String, serde_json::Value> = self
            .times()
            .into_iter()
            .map(|(name, ns)| (format!("{name}_ns"), ns.into()))
            .collect();
        let value = serde_json::json!({
            "fault": self.index, "seq": row.seq.0, "time_ns": row.time_ns.0, "vm": row.vm.0, "vcpu": row.vcpu.0,
            "class": row.class.name(), "gva": row.gva.0, "error_code": row.error_code, "cr3": row.cr3.0,
            "root": row.root.0, "rip": row.rip.map(|rip| rip.0), "total_ns": row.total_ns, "steps": times,
            "guest_walk": guest, "gpa": self.gpa().map(|gpa| gpa.0),
            "slot": self.hva_by_slot().map(|(slot, hva)| serde_json::json!({
                "slot": slot.slot, "gpa": slot.gpa, "hva": slot.hva, "bytes": slot.bytes, "hva_by_slot": hva,
            })),
            "hva": row.hva.map(|hva| hva.0), "pfn": row.pfn.map(|pfn| pfn.0),
            "leaf": row.sptep.zip(row.spte).map(|(place, spte)| serde_json::json!({
                "sptep": place.0, "spte": spte.0, "level": row.level.map(|level| level.0),
            })),
            "store": self.store.as_ref().map(Store::json),
            "entries_stored": self.stores.iter().map(|(level, store)| {
                serde_json::json!({"level": level.0, "store": store.json()})
            }).collect::<Vec<_>>(),
            "emptied": self.emptied.as_ref().map(|row| serde_json::json!({
                "seq": row.seq.0, "time_ns": row.time_ns.0, "cause": row.cause.name(),
                "old": row.old.map(|old| old.0),
            })),
            "shadow_walk": shadow, "pages": self.on_the_way, "followed": followed,
            "missing_records_since_keyframe": self.missing,
        });
        without_nulls(value)
    }
}

fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn event_name<S: serde::Serializer>(event: &PageEvent, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(event.name())
}

fn hpa<S: serde::Serializer>(hpa: &Hpa, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(hpa.0)
}
