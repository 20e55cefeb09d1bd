//! Faults and shadow tables over time.

use std::collections::{BTreeMap, BTreeSet};

use events::{Cause, Class, PageEvent, VcpuId};
use serde::Serialize;

use crate::replay::{MAX_LEVEL, Totals};

/// Bins of a recording: what a figure's width resolves.
const BINS: usize = 240;

/// A span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Faults that began in it, by class.
    pub faults: BTreeMap<Class, u64>,
    /// Entries that changed in it other than the leaves of faults, by cause.
    pub changes: BTreeMap<Cause, u64>,
    /// Shadow pages made and zapped in it.
    pub made: u64,
    /// See `made`.
    pub zapped: u64,
    /// The tables at its end.
    pub totals: Totals,
}

/// A phase of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// Its name, as the guest marked it.
    pub name: String,
    /// When it began, ns on the trace's clock.
    pub time_ns: u64,
    /// Record of the mark.
    pub seq: u64,
    /// vCPU that marked it.
    pub vcpu: Option<VcpuId>,
}

/// Faults and shadow tables of one VM over time.
#[derive(Clone, Debug)]
pub struct Timeline {
    start_ns: u64,
    bin_ns: u64,
    bins: Vec<Option<Bin>>,
    /// Phases in the order of their marks.
    pub phases: Vec<Phase>,
}

/// Phases kept; a workload has six.
pub const KEPT_PHASES: u16 = 4096;

impl Timeline {
    /// An empty one for a span of time.
    pub fn new([start, end]: [u64; 2]) -> Self {
        let bin_ns = (end.saturating_sub(start) / BINS as u64).saturating_add(1);
        Self {
            start_ns: start,
            bin_ns,
            bins: vec![None; BINS],
            phases: Vec::new(),
        }
    }

    fn bin(&mut self, time_ns: u64) -> Option<&mut Bin> {
        let index = time_ns.saturating_sub(self.start_ns) / self.bin_ns;
        let index = usize::try_from(index)
            .ok()?
            .min(self.bins.len().checked_sub(1)?);
        Some(self.bins.get_mut(index)?.get_or_insert_default())
    }

    /// Counts a fault.
    pub fn fault(&mut self, time_ns: u64, class: Class) {
        if let Some(bin) = self.bin(time_ns) {
            *bin.faults.entry(class).or_default() += 1;
        }
    }

    /// Counts an entry that changed other than the leaf of a fault.
    pub fn change(&mut self, time_ns: u64, cause: Cause) {
        if let Some(bin) = self.bin(time_ns) {
            *bin.changes.entry(cause).or_default() += 1;
        }
    }

    /// Counts a shadow page that was made or zapped.
    pub fn page(&mut self, time_ns: u64, event: PageEvent) {
        let Some(bin) = self.bin(time_ns) else { return };
        match event {
            PageEvent::Born => bin.made += 1,
            PageEvent::Zapped => bin.zapped += 1,
            PageEvent::Reused | PageEvent::Unsync | PageEvent::Sync => {}
        }
    }

    /// Notes how the tables are after a record.
    pub fn tables(&mut self, time_ns: u64, totals: &Totals) {
        if let Some(bin) = self.bin(time_ns) {
            bin.totals = *totals;
        }
    }

    /// A phase begins.
    pub fn phase(&mut self, phase: Phase) {
        if self.phases.len() < usize::from(KEPT_PHASES) {
            self.phases.push(phase);
        }
    }

    /// Name of a phase, with its vCPU where others marked one of the same name.
    pub fn label(&self, phase: &Phase) -> String {
        let mut same = self.phases.iter().filter(|of| of.name == phase.name);
        match phase.vcpu {
            Some(vcpu) if same.any(|of| of.vcpu != phase.vcpu) => {
                format!("{} vCPU {}", phase.name, vcpu.0)
            }
            _ => phase.name.clone(),
        }
    }

    /// When the first bin begins, ns.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// Length of a bin, ns.
    pub fn bin_ns(&self) -> u64 {
        self.bin_ns
    }

    /// Every bin with its beginning, seconds from the start. A bin without records carries the
    /// tables of the one before.
    pub fn bins(&self) -> Vec<(f64, Bin)> {
        let mut totals = Totals::default();
        let mut bins = Vec::with_capacity(self.bins.len());
        for (number, bin) in self.bins.iter().enumerate() {
            let bin = bin.clone().unwrap_or(Bin {
                totals,
                ..Bin::default()
            });
            totals = bin.totals;
            bins.push((
                self.seconds(
                    self.start_ns
                        .saturating_add((number as u64).saturating_mul(self.bin_ns)),
                ),
                bin,
            ));
        }
        bins
    }

    /// A time as seconds from the start.
    pub fn seconds(&self, time_ns: u64) -> f64 {
        time_ns.saturating_sub(self.start_ns) as f64 / 1e9
    }

    /// Classes that occur.
    pub fn classes(&self) -> Vec<Class> {
        let seen = |class: &Class| {
            self.bins
                .iter()
                .flatten()
                .any(|bin| bin.faults.contains_key(class))
        };
        Class::ALL.into_iter().filter(seen).collect()
    }

    /// Causes that occur.
    pub fn causes(&self) -> BTreeSet<Cause> {
        let bins = self.bins.iter().flatten();
        bins.flat_map(|bin| bin.changes.keys().copied()).collect()
    }

    /// The highest level of any page, at least 1.
    pub fn levels(&self) -> usize {
        let seen = |level: &usize| {
            self.bins.iter().flatten().any(|bin| {
                bin.totals
                    .pages
                    .get(level - 1)
                    .is_some_and(|pages| *pages > 0)
            })
        };
        (1..=MAX_LEVEL).rev().find(seen).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_several_vcpus_mark_has_its_vcpu() {
        let mut timeline = Timeline::new([0, 1000]);
        for (name, vcpu) in [("work", 0), ("done", 0), ("done", 1)] {
            timeline.phase(Phase {
                name: name.to_owned(),
                time_ns: 0,
                seq: 0,
                vcpu: Some(VcpuId(vcpu)),
            });
        }
        let labels: Vec<_> = timeline
            .phases
            .iter()
            .map(|of| timeline.label(of))
            .collect();
        assert_eq!(labels, ["work", "done vCPU 0", "done vCPU 1"]);
    }
}
