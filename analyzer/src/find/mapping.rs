//! One mapping, from the record that made it to the one that ended it.

use events::{Cause, Class, Gfn, Gpa, Gva, HostEvent, Hpa, Level, PageEvent, Pfn, Seq, Spte};
use events::{TimeNs, VcpuId};
use serde::Serialize;
use trace::Record;

use super::paths::Path;
use crate::{replay::ShadowTables, text::flags};

/// What a record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Act {
    /// A fault stored the leaf.
    Fault {
        /// Its class.
        class: Class,
    },
    /// The entry, or one above it, changed outside of a fault.
    Entry {
        /// Why.
        cause: Cause,
        /// It was an entry above: the table was linked, or another took its place.
        above: bool,
    },
    /// Something happened to a shadow page: the leaf's own, one above it, or, for `born` and
    /// `sync`, one that shadows a guest table in the frame, which is write-protected then.
    Page {
        /// What.
        event: PageEvent,
        /// Which page.
        spt: Hpa,
    },
    /// The host did something to a range of frames.
    Host {
        /// What.
        event: HostEvent,
    },
    /// An act of the host removed it, without a record of its own: the record is the one that says
    /// that the act's range was read since.
    Gone {
        /// Why.
        cause: Cause,
        /// Number of the act.
        by: Seq,
    },
    /// A keyframe showed it: the change itself has no record.
    Keyframe,
    /// A vCPU loaded a PAE root, whose PDPTEs were read then.
    Root,
    /// A record of another kind.
    Other,
}

/// When, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Number of the record, which `explain --seq` takes.
    pub seq: Seq,
    /// Its time, on the trace's clock.
    pub time_ns: TimeNs,
    /// The vCPU on whose thread it was, if on one.
    pub vcpu: Option<VcpuId>,
    /// What the record says.
    pub act: Act,
}

impl Moment {
    /// Of a record, as it concerns the entry at `place`.
    pub(super) fn of(record: &Record, place: Hpa) -> Self {
        let (act, vcpu) = match record {
            Record::Fault(row) => (Act::Fault { class: row.class }, Some(row.vcpu)),
            Record::Entry(row) => {
                let (cause, above) = (row.cause, row.sptep != place);
                (Act::Entry { cause, above }, row.vcpu)
            }
            Record::Page(row) => {
                let (event, spt) = (row.event, row.spt);
                (Act::Page { event, spt }, row.vcpu)
            }
            Record::Host(row) => (Act::Host { event: row.event }, row.vcpu),
            Record::Mark(row) => (Act::Keyframe, row.vcpu),
            Record::Root(row) => (Act::Root, Some(row.vcpu)),
            _ => (Act::Other, None),
        };
        Self {
            seq: record.seq(),
            time_ns: record.time(),
            vcpu,
            act,
        }
    }

    /// For people: the number of the record, and what it is.
    pub fn words(&self) -> String {
        let mut seq = self.seq;
        let what = match self.act {
            Act::Fault { class } => format!("{} fault", class.name()),
            Act::Entry {
                cause,
                above: false,
            } => cause.name().to_owned(),
            Act::Entry { cause, above: true } => format!("{} of an entry above", cause.name()),
            Act::Page { event, spt } => format!("page {spt} {}", event.name()),
            Act::Host { event } => format!("host's {}", event.name()),
            Act::Gone { cause, by } => {
                seq = by;
                cause.name().to_owned()
            }
            Act::Keyframe => "seen by a keyframe".to_owned(),
            Act::Root => "load of the root".to_owned(),
            Act::Other => "another record".to_owned(),
        };
        format!("{} {what}", seq.0)
    }
}

/// A leaf as it is in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) spte: Spte,
    pub(super) level: Level,
    /// The first frame it maps, where it is known.
    pub(super) gfn: Option<Gfn>,
}

impl Leaf {
    /// The leaf at `place`, if there is one.
    pub(super) fn at(tables: &ShadowTables, place: Hpa) -> Option<Self> {
        let page = tables.page(place.table())?;
        let (spte, level) = (page.entry(place.index()), page.info.level);
        spte.is_leaf(level).then(|| Self {
            spte,
            level,
            gfn: page.leaf_gfn(place.index()),
        })
    }

    /// Whether it gives the same access to the same memory: hardware sets other bits by itself.
    fn same(&self, other: &Self) -> bool {
        self.spte.pfn() == other.spte.pfn()
            && self.level == other.level
            && flags::rights(self.spte) == flags::rights(other.spte)
    }
}

/// One mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Address of the leaf entry.
    pub sptep: Hpa,
    /// The entry, as it was when the mapping began.
    pub spte: Spte,
    /// Level of its table.
    pub level: Level,
    /// The first guest frame it maps, where it is known.
    pub gfn: Option<Gfn>,
    /// Root and address; absent for a leaf that no root leads to.
    pub path: Option<Path>,
    /// The guest's CR3 with that root, where a record has it.
    pub cr3: Option<Gpa>,
    /// The record that made it.
    pub from: Moment,
    /// The record that ended it, or took or gave access; absent if it was there at the end.
    pub until: Option<Moment>,
}

impl Mapping {
    /// Whether it is the way and the leaf that are in the tables now.
    pub(super) fn is(&self, path: Option<Path>, leaf: &Leaf) -> bool {
        let own = Leaf {
            spte: self.spte,
            level: self.level,
            gfn: self.gfn,
        };
        self.path == path && own.same(leaf)
    }

    /// Whether it was there just after the record `seq`.
    pub fn is_at(&self, seq: Seq) -> bool {
        self.from.seq <= seq && self.until.is_none_or(|until| until.seq > seq)
    }

    /// First host frame.
    pub fn pfn(&self) -> Pfn {
        self.spte.pfn()
    }

    /// First address.
    pub fn gva(&self) -> Option<Gva> {
        self.path.map(|path| path.gva)
    }

    /// `rwxu`.
    pub fn rights(&self) -> String {
        flags::rights(self.spte)
    }
}
