//! What happened, told: a fault as the five steps from a guest address to a shadow entry, a change
//! of an entry with what led to it, a shadow page's life, any other record.

mod act;
mod act_text;
mod ahead;
mod bits;
mod change;
mod change_text;
mod class_text;
mod find;
mod guest;
mod history;
#[cfg(test)]
mod hostile;
mod life;
mod life_text;
mod select;
mod stores;
mod text;
mod unsync;
mod ways;
mod why;

use events::{Class, Gpa, Gva, Hpa, Level, PageEvent, Spte, TimeNs};
use serde::Serialize;
use trace::{EntryRow, FaultRow, HostRow, PageRow, TraceError, VmMeta};

use crate::{
    faults::{FaultStep, memslot},
    replay::Walk,
};

pub use act::{Act, Shadow};
pub use change::{After, Change};
pub use find::find;
pub use guest::GuestStep;
pub use history::{By, FaultRef, GuestEntry, Source, Writer};
pub use life::{End, Life, Link, Moment, Zap};
pub use select::{Census, Selector};
pub use stores::{Cleared, Store};
pub use text::meaning;
pub use unsync::Period;
pub use ways::{Way, Ways};
pub use why::{Why, why};

/// Why something could not be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// There is none.
    #[error("this VM has {wanted}; {choice}{hint}")]
    NoSuch {
        /// That what was asked for is not there, and how many like it are.
        wanted: String,
        /// What the VM has instead.
        choice: String,
        /// As what such a change stands in this trace, where its own probe is not attached.
        hint: String,
    },
    /// The trace could not be read that far.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// What was asked for, told.
#[derive(Clone, Debug)]
pub enum Told {
    /// A fault.
    Fault(Box<Explanation>),
    /// A change of an entry.
    Change(Box<Change>),
    /// The life of a shadow page.
    Life(Box<Life>),
    /// Another record.
    Act(Box<Act>),
}

impl Told {
    /// As text for 100 columns.
    pub fn text(&self) -> String {
        match self {
            Told::Fault(of) => text::text(of),
            Told::Change(of) => change_text::text(of),
            Told::Life(of) => life_text::text(of),
            Told::Act(of) => act_text::text(of),
        }
    }

    /// As JSON; an absent number is left out.
    pub fn json(&self) -> serde_json::Value {
        without_nulls(match self {
            Told::Fault(of) => of.json(),
            Told::Change(of) => of.json(),
            Told::Life(of) => of.json(),
            Told::Act(of) => of.json(),
        })
    }
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
    /// The guest's phase and its beginning.
    pub phase: Option<(String, TimeNs)>,
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
    /// What stood in the leaf's place before; unknown without a leaf, or in an unknown table.
    pub before: Option<Spte>,
    /// Who had stored that, or the leaf that the address had.
    pub writer: Option<Writer>,
    /// Pages that the fault let go unsync.
    pub unsync: Vec<Unsynced>,
    /// Pages that were zapped after the fault's record and before the next one of its vCPU.
    pub zapped_after: Vec<PageChange>,
    /// What the host did between the fault's beginning and its record.
    pub act: Option<HostRow>,
    /// For a fault that was given up: its address's entry as it was read again afterwards.
    pub reread: Option<EntryRow>,
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
    /// Emulated stores to the guest table since KVM last used it as one.
    pub stores: u32,
}

/// A page that a fault let go unsync, until it was synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsynced {
    /// Its event.
    pub page: PageChange,
    /// How long it lasted.
    pub period: Period,
    /// Entries that changed meanwhile and by the sync: the first few.
    pub changed: Vec<EntryRow>,
    /// Its zap, if that ended it.
    pub zapped: Option<PageRow>,
    /// Its end was seen, and what that changed.
    is_over: bool,
}

impl PageChange {
    fn new(row: &PageRow, stores: u32) -> Self {
        Self {
            event: row.event,
            spt: row.spt,
            gfn: row.gfn.0,
            level: row.level.0,
            direct: row.direct != 0,
            stores,
        }
    }
}

impl Unsynced {
    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let changed: Vec<_> = self
            .changed
            .iter()
            .map(|row| {
                serde_json::json!({
                    "seq": row.seq.0, "cause": row.cause.name(), "sptep": row.sptep.0,
                    "old": row.old.map(|old| old.0), "spte": row.spte.0,
                })
            })
            .collect();
        serde_json::json!({
            "page": self.page, "period": self.period.json(), "changed": changed,
            "zapped_seq": self.zapped.as_ref().map(|row| row.seq.0),
        })
    }
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

    /// As JSON.
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
        serde_json::json!({
            "fault": self.index, "phase": self.phase.as_ref().map(|(name, _)| name), "seq": row.seq.0, "time_ns": row.time_ns.0, "vm": row.vm.0, "vcpu": row.vcpu.0,
            "class": row.class.name(), "gva": row.gva.0, "error_code": row.error_code.0, "cr3": row.cr3.0,
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
            "before": self.before.map(|before| before.0),
            "stored_before": self.writer.map(|writer| writer.json()),
            "unsync": self.unsync.iter().map(Unsynced::json).collect::<Vec<_>>(),
            "read_again": self.reread.as_ref().map(|row| serde_json::json!({
                "seq": row.seq.0, "sptep": row.sptep.0, "spte": row.spte.0,
            })),
            "zapped_after": self.zapped_after, "host": self.act.as_ref().map(act::host_json),
            "shadow_walk": shadow, "pages": self.on_the_way, "followed": followed,
            "missing_records_since_keyframe": self.missing,
        })
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
