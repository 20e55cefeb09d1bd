//! Why entries changed between two moments.

use std::collections::{HashMap, HashSet};

use events::{Hpa, PageEvent, Spte};
use trace::Record;

use super::EntryChange;
use crate::replay::{VmReplay, is_unchanged};

/// Entries followed at most; later ones have no known cause. Bounds a hostile trace.
const MAX_PLACES: usize = 4 << 20;

/// What the records between two moments say.
#[derive(Clone, Debug, Default)]
pub struct Between {
    /// The latest record of each entry: its new value, and its cause.
    latest: HashMap<Hpa, (Spte, &'static str)>,
    zapped: HashSet<Hpa>,
}

impl Between {
    /// A record of the VM between the two moments, with the tables before it.
    pub(super) fn saw(&mut self, record: &Record, vm: Option<&VmReplay>) {
        let (place, spte, cause) = match record {
            Record::Fault(row) => match (row.sptep, row.spte) {
                (Some(place), Some(spte)) => (place, spte, "fault"),
                _ => return,
            },
            Record::Entry(row) if is_unchanged(row, vm) => return,
            Record::Entry(row) => (row.sptep, row.spte, row.cause.name()),
            Record::Host(row) => {
                let gone = vm.map_or_else(Vec::new, |vm| vm.gone(row));
                for of in gone {
                    self.set(of.sptep, of.spte, of.cause.name());
                }
                return;
            }
            Record::Page(row) if row.event == PageEvent::Zapped => {
                if self.zapped.len() < MAX_PLACES {
                    self.zapped.insert(row.spt);
                }
                return;
            }
            _ => return,
        };
        self.set(place, spte, cause);
    }

    /// The same record, with the tables after it.
    pub(super) fn took(&mut self, record: &Record, vm: Option<&VmReplay>) {
        let gone = vm.map_or_else(Vec::new, |vm| vm.recycled(record));
        for of in gone {
            self.set(of.sptep, of.spte, of.cause.name());
        }
    }

    fn set(&mut self, place: Hpa, spte: Spte, cause: &'static str) {
        if self.latest.len() < MAX_PLACES || self.latest.contains_key(&place) {
            self.latest.insert(place, (spte, cause));
        }
    }

    /// Why an entry changed: what its record says; else the zap that took it along, the rule that a
    /// guest table's frame is write-protected, or the keyframe that first showed it.
    pub fn cause(&self, change: &EntryChange) -> &'static str {
        let latest = self.latest.get(&change.place);
        if let Some((_, cause)) = latest.filter(|(spte, _)| *spte == change.after) {
            return cause;
        }
        if !change.after.is_shadow_present() {
            if self.zapped.contains(&change.place.table()) {
                return "zap";
            }
            if !change.before.is_leaf(change.level) && self.zapped.contains(&change.before.child())
            {
                return "zap_of_child";
            }
        }
        // Since the record, hardware may have set A and D, and a new guest table of the frame may
        // have taken the write bits.
        let base = latest.map_or(change.before, |(spte, _)| *spte);
        if base.without_accessed_dirty() == change.after.without_accessed_dirty() {
            return latest.map_or("accessed_dirty", |(_, cause)| cause);
        }
        let (base, after) = (
            base.without_accessed_dirty(),
            change.after.without_accessed_dirty(),
        );
        if base.is_writable() && base.without_write() == after {
            return "write_protect";
        }
        "keyframe"
    }
}
