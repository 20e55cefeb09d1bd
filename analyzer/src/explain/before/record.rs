//! A store, an act of the host, a root or a mark, as it is known when its record comes.

use events::Gpa;
use trace::{Record, RootRow, WriteRow};

use super::{state::Before, translations::translations};
use crate::explain::{
    causes::new_root,
    facts::{Kind, RecordFacts, RootFacts, ShadowOfStore, Store},
};

impl Before<'_> {
    /// A record that neither the replay nor the history has yet; `None` for the other kinds.
    pub fn record(&self, record: &Record) -> Option<RecordFacts> {
        let kind = match record {
            Record::Write(row) => self.store(row),
            Record::Host(row) => Kind::Host(row.clone()),
            Record::Root(row) => Kind::Root(self.root(row)),
            Record::Mark(row) => Kind::Mark(row.clone()),
            Record::Act(row) => Kind::Act(row.clone()),
            Record::Keyframe(page) => page.into(),
            Record::Fault(_) | Record::Entry(_) | Record::Page(_) | Record::Loss(_) => return None,
        };
        Some(RecordFacts {
            seq: record.seq(),
            time_ns: record.time(),
            vm: record.vm(),
            start_ns: 0,
            phase: self.history.phase.clone(),
            record: kind,
            changed: Vec::new(),
            changed_total: 0,
            emptied: false,
            zapped: Vec::new(),
            bill: None,
            refilled: None,
        })
    }

    fn store(&self, row: &WriteRow) -> Kind {
        let shadow_pages = self.shadows_of_store(row.gpa);
        let first = shadow_pages.first();
        let guest_entry = first.and_then(|shadow| {
            let (table, index) = (&shadow.table, shadow.sptep.index());
            self.history.guest_entry(table, self.gptes(table), index)
        });
        let before = self.history.value_before(row.gpa, row.bytes);
        Kind::Store {
            store: Store::new(row, before),
            shadow_pages,
            guest_entry,
            stores_since_use: self
                .history
                .stores_since_use(row.gpa.gfn())
                .saturating_add(1),
        }
    }

    /// The shadow entries of the guest entry that a store concerns.
    fn shadows_of_store(&self, gpa: Gpa) -> Vec<ShadowOfStore> {
        let shadows = self.shadows_of(gpa.gfn()).into_iter();
        let shadows = shadows.flat_map(|page| {
            let gptes = self.gptes(&page.info);
            let indexes = gptes.shadow_entries(gpa.0);
            indexes.map(move |index| ShadowOfStore {
                table: page.info,
                gpte_bytes: gptes.bytes,
                sptep: page.place(index),
                spte: page.entry(index),
                translations: translations(page.place(index), *self),
            })
        });
        shadows.collect()
    }

    fn root(&self, row: &RootRow) -> RootFacts {
        let before = self.replay.and_then(|vm| vm.roots().get(&row.vcpu));
        let page = self
            .replay
            .and_then(|vm| vm.tables().page(row.root.table()));
        RootFacts {
            row: row.clone(),
            cause: new_root(row, before),
            entries: page.map(|page| page.present()),
        }
    }
}
