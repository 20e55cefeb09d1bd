//! Faults and changes by VM since the last look.

use std::collections::BTreeMap;

use events::{Class, PageEvent, VmId};
use serde::Serialize;
use trace::Batch;

/// Faults of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// How many.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The longest, ns.
    pub max_ns: u64,
}

impl Faults {
    fn add(&mut self, ns: u64) {
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }
}

/// What one VM did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfVm {
    /// Its faults.
    pub classes: BTreeMap<Class, Faults>,
    /// Entries that changed outside of faults, as far as records show it.
    pub changes: u64,
    /// Shadow pages that were made.
    pub born: u64,
    /// Shadow pages that were zapped.
    pub zapped: u64,
}

/// What every VM did.
#[derive(Clone, Debug, Default)]
pub struct Sums(BTreeMap<VmId, OfVm>);

impl Sums {
    /// Adds what came.
    pub fn add(&mut self, batch: &Batch) {
        for row in &batch.faults {
            let of = self.0.entry(row.vm).or_default();
            of.classes.entry(row.class).or_default().add(row.total_ns);
        }
        for row in &batch.entries {
            self.0.entry(row.vm).or_default().changes += 1;
        }
        for row in &batch.pages {
            let of = self.0.entry(row.vm).or_default();
            of.born += u64::from(row.event == PageEvent::Born);
            of.zapped += u64::from(row.event == PageEvent::Zapped);
        }
    }

    /// One VM's.
    pub fn of(&self, vm: VmId) -> OfVm {
        self.0.get(&vm).cloned().unwrap_or_default()
    }
}
