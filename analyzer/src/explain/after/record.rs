//! The effect of a store or of an act of the host.

use std::collections::BTreeSet;

use events::{Cause, Gfn, Hpa, PageEvent, TimeNs, VcpuId};
use trace::{EntryRow, HostRow, PageRow, Record};

use super::ahead::{BOUNDS, Later, Question};
use crate::explain::facts::{Kind, PageChange, RecordFacts, Refilled, Writer, ZapCause, covers};

/// What a record changes, until its thread does something else, and the first entry that it
/// empties and that is mapped again.
#[derive(Debug)]
pub(super) struct Effect {
    time_ns: TimeNs,
    actor: Actor,
    changed: Vec<EntryRow>,
    changed_total: u64,
    zapped: Vec<PageChange>,
    emptied: BTreeSet<Hpa>,
    refilled: Option<Refilled>,
    is_over: bool,
}

/// Whose effect is looked for.
#[derive(Debug)]
enum Actor {
    Store {
        seq: events::Seq,
        vcpu: VcpuId,
        gfn: Gfn,
        stores: u32,
    },
    Host(HostRow),
    /// A root or a mark has no effect.
    Other,
}

impl Effect {
    pub fn new(of: &RecordFacts) -> Self {
        let actor = match &of.record {
            Kind::Store {
                store,
                stores_since_use,
                ..
            } => Actor::Store {
                seq: store.seq,
                vcpu: store.vcpu,
                gfn: store.gpa.gfn(),
                stores: *stores_since_use,
            },
            Kind::Host(row) => Actor::Host(row.clone()),
            _ => Actor::Other,
        };
        Self {
            time_ns: of.time_ns,
            actor,
            changed: Vec::new(),
            changed_total: 0,
            zapped: Vec::new(),
            emptied: BTreeSet::new(),
            refilled: None,
            is_over: false,
        }
    }

    pub fn add_to(self, of: &mut RecordFacts) {
        of.emptied = !self.emptied.is_empty();
        of.changed = self.changed;
        of.changed_total = self.changed_total;
        of.zapped = self.zapped;
        of.refilled = self.refilled;
    }

    fn vcpu(&self) -> Option<VcpuId> {
        match &self.actor {
            Actor::Store { vcpu, .. } => Some(*vcpu),
            Actor::Host(row) => row.vcpu,
            Actor::Other => None,
        }
    }

    /// Whether a change is the effect.
    fn is_effect(&self, row: &EntryRow) -> bool {
        match &self.actor {
            Actor::Store { vcpu, .. } => row.cause == Cause::GuestWrite && row.vcpu == Some(*vcpu),
            Actor::Host(host) => {
                let by_host = matches!(
                    row.cause,
                    Cause::HostUnmap | Cause::DirtyLog | Cause::Memslot | Cause::Reread
                );
                by_host && row.vcpu == host.vcpu && row.gfn.is_none_or(|gfn| covers(host, gfn))
            }
            Actor::Other => false,
        }
    }

    fn entry(&mut self, row: &EntryRow) {
        if row.spte.is_shadow_present() && self.emptied.contains(&row.sptep) {
            self.refill(Writer::of_entry(row));
        } else if !self.is_over && self.is_effect(row) {
            self.changed_total += 1;
            if self.changed.len() < BOUNDS.changed {
                self.changed.push(row.clone());
            }
            if !row.spte.is_shadow_present() && self.emptied.len() < BOUNDS.emptied {
                self.emptied.insert(row.sptep);
            }
        }
    }

    fn page(&mut self, row: &PageRow) {
        if let Actor::Store {
            seq,
            vcpu,
            gfn,
            stores,
        } = self.actor
            && !self.is_over
            && row.event == PageEvent::Zapped
            && (row.vcpu, row.gfn) == (Some(vcpu), gfn)
            && self.zapped.len() < BOUNDS.changed
        {
            let mut zapped = PageChange::new(row, stores);
            zapped.zapped_by = Some(ZapCause::of_store(seq, stores, row.level));
            self.zapped.push(zapped);
        }
    }

    /// An entry that it emptied is mapped again.
    fn refill(&mut self, by: Writer) {
        let after_ns = by.time_ns.0.saturating_sub(self.time_ns.0);
        self.refilled.get_or_insert(Refilled { by, after_ns });
        self.is_over = true;
    }
}

impl Question for Effect {
    fn see(&mut self, later: Later<'_>) {
        let own = self.vcpu();
        match (later.record, later.fault) {
            (Record::Entry(row), _) => self.entry(row),
            (Record::Page(row), _) => self.page(row),
            (Record::Write(row), _) => self.is_over |= Some(row.vcpu) == own,
            (Record::Host(row), _) => self.is_over |= row.vcpu == own,
            (Record::Fault(row), Some(fault)) => {
                // The fault that a store is emulated in comes after it, without a leaf.
                self.is_over |= Some(row.vcpu) == own && row.sptep.is_some();
                if row.sptep.is_some_and(|place| self.emptied.contains(&place)) {
                    self.refill(Writer::of_fault(fault));
                }
            }
            _ => {}
        }
    }

    fn is_answered(&self) -> bool {
        match self.actor {
            Actor::Other => true,
            _ => self.is_over && (self.refilled.is_some() || self.emptied.is_empty()),
        }
    }
}
