//! Transitions that the shadow MMU cannot have made: something was not seen.

use std::{collections::BTreeMap, fmt};

use events::{Hpa, Seq, TimeNs};

/// What is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnomalyKind {
    /// An entry was stored in a page that no record made.
    EntryInUnknownPage,
    /// A present entry was stored in a page that was zapped before.
    EntryInZappedPage,
    /// A page was looked up, synced, unsynced or zapped that no record made.
    UnknownPage,
    /// A page was made where one lives.
    BornTwice,
    /// A record names another level than the page has.
    OtherLevel,
    /// A page was looked up with another gfn or role than it was made with.
    OtherRole,
    /// An entry points to a table that no record made.
    LinkToUnknownTable,
    /// An entry points to a table that was zapped before.
    LinkToZappedTable,
    /// An entry points to a table that is not below its own.
    LinkNotDownwards,
    /// A page was synced that was not unsync.
    SyncOfSynced,
    /// A page went unsync that was unsync already.
    UnsyncOfUnsync,
    /// A page went unsync that shadows no leaf table of the guest's.
    UnsyncOfNoLeafTable,
    /// A leaf was stored for a vCPU whose root no record made.
    UnknownRoot,
    /// The guest can write a table above its leaf tables, which KVM protects while it shadows it.
    WritableTable,
    /// A range of frames was settled that was not read again.
    SettledUnread,
    /// A record names another value before the change than replay has.
    OtherOld,
    /// More pages than any KVM keeps: the page is not replayed.
    TooManyPages,
}

impl AnomalyKind {
    /// A short name for tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EntryInUnknownPage => "entry_in_unknown_page",
            Self::EntryInZappedPage => "entry_in_zapped_page",
            Self::UnknownPage => "unknown_page",
            Self::BornTwice => "born_twice",
            Self::OtherLevel => "other_level",
            Self::OtherRole => "other_role",
            Self::LinkToUnknownTable => "link_to_unknown_table",
            Self::LinkToZappedTable => "link_to_zapped_table",
            Self::LinkNotDownwards => "link_not_downwards",
            Self::SyncOfSynced => "sync_of_synced",
            Self::UnsyncOfUnsync => "unsync_of_unsync",
            Self::UnsyncOfNoLeafTable => "unsync_of_no_leaf_table",
            Self::UnknownRoot => "unknown_root",
            Self::WritableTable => "writable_table",
            Self::SettledUnread => "settled_unread",
            Self::OtherOld => "other_old",
            Self::TooManyPages => "too_many_pages",
        }
    }

    /// Whether it may say only that the tables are not known yet, as before the first keyframe of
    /// a VM that ran already.
    pub const fn needs_known_tables(self) -> bool {
        matches!(
            self,
            Self::EntryInUnknownPage
                | Self::UnknownPage
                | Self::LinkToUnknownTable
                | Self::UnknownRoot
                | Self::OtherOld
        )
    }
}

impl fmt::Display for AnomalyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EntryInUnknownPage => "entry stored in a page that no record made",
            Self::EntryInZappedPage => "entry stored in a page that was zapped before",
            Self::UnknownPage => "event of a page that no record made",
            Self::BornTwice => "page made where one lives",
            Self::OtherLevel => "record names another level than the page has",
            Self::OtherRole => "page found with another gfn or role than it was made with",
            Self::LinkToUnknownTable => "entry points to a table that no record made",
            Self::LinkToZappedTable => "entry points to a table that was zapped before",
            Self::LinkNotDownwards => "entry points to a table that is not below its own",
            Self::SyncOfSynced => "page synced that was not unsync",
            Self::UnsyncOfUnsync => "page went unsync that was unsync already",
            Self::UnsyncOfNoLeafTable => {
                "page went unsync that shadows no leaf table of the guest's"
            }
            Self::UnknownRoot => "leaf stored for a root that no record made",
            Self::WritableTable => {
                "leaf lets the guest write a frame that is one of its upper tables, which KVM \
                 protects"
            }
            Self::SettledUnread => "range of frames settled that was not read again",
            Self::OtherOld => "record names another value before the change than replay has",
            Self::TooManyPages => "more shadow pages than any KVM keeps",
        })
    }
}

/// One impossible transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// The record.
    pub seq: Seq,
    /// Its time.
    pub time: TimeNs,
    /// What is impossible about it.
    pub kind: AnomalyKind,
    /// The entry or the page; zero where it is of a range of frames.
    pub place: Hpa,
}

/// All impossible transitions of a VM: counted by kind, the first ones kept.
#[derive(Clone, Debug, Default)]
pub struct Anomalies {
    counts: BTreeMap<AnomalyKind, u64>,
    first: Vec<Anomaly>,
}

/// How many are kept in full.
const KEPT: usize = 100;

impl Anomalies {
    pub(crate) fn add(&mut self, anomaly: Anomaly) {
        *self.counts.entry(anomaly.kind).or_default() += 1;
        if self.first.len() < KEPT {
            self.first.push(anomaly);
        }
    }

    /// How many of each kind.
    pub fn counts(&self) -> &BTreeMap<AnomalyKind, u64> {
        &self.counts
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The first ones.
    pub fn first(&self) -> &[Anomaly] {
        &self.first
    }
}
