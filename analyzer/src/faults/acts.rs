//! What KVM did to the shadow tables in one piece, and how long that took.

use std::collections::{BTreeMap, VecDeque};

use events::{Act, Class, VcpuId};
use serde::Serialize;
use trace::{ActRow, FaultRow};

use super::Times;

/// Acts of a vCPU that wait for the fault that they may be part of: more than KVM makes in one.
const WAITING: usize = 1024;

/// What an act does, after the kernel's functions.
pub const fn meaning_of_act(act: Act) -> &'static str {
    match act {
        Act::SyncRoots => "every unsync page below a vCPU's roots is synced (kvm_mmu_sync_roots)",
        Act::Sync => {
            "unsync pages that are about to be used are synced (mmu_sync_children, __kvm_sync_page)"
        }
        Act::Invlpg => "one address is invalidated: INVLPG, or a fault that KVM injects",
        Act::WriteZap => "an emulated store zaps pages: one too many to a table, or misaligned",
        Act::ZapPage => "a shadow page is zapped (__kvm_mmu_prepare_zap_page)",
        Act::Unmap => "the host takes memory away or moves it (kvm_unmap_gfn_range)",
        Act::DirtyStart => "write access is taken from a slot for its dirty log",
        Act::DirtyClear => "write access is taken from frames fetched from the dirty log",
        Act::ZapRange => "a range of frames is zapped (kvm_zap_gfn_range)",
        Act::FlushSlot => "a memslot is deleted or moved (kvm_arch_flush_shadow_memslot)",
    }
}

/// What the acts of one kind cost. An act may contain acts of other kinds, so kinds do not add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActCost {
    /// Acts.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// Median, ns.
    pub p50_ns: u64,
    /// 95th percentile, ns; absent of fewer than 20.
    pub p95_ns: Option<u64>,
    /// 99th percentile, ns; absent of fewer than 100.
    pub p99_ns: Option<u64>,
    /// The longest, ns.
    pub max_ns: u64,
    /// Of `total_ns`, the time within faults, which is in theirs too, ns.
    pub in_faults_ns: u64,
    /// Shadow pages synced meanwhile.
    pub synced: u64,
    /// Shadow pages zapped meanwhile.
    pub zapped: u64,
}

#[derive(Clone, Debug, Default)]
struct Of {
    times: Times,
    in_faults_ns: u64,
    synced: u64,
    zapped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn new(from: u64, ns: u64) -> Self {
        let to = from.saturating_add(ns);
        Self { from, to }
    }

    fn contains(self, other: Self) -> bool {
        self.from <= other.from && other.to <= self.to
    }

    fn ns(self) -> u64 {
        self.to - self.from
    }
}

/// An act that may turn out to be part of a fault.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    span: Span,
    act: Act,
    /// Part of an act of another kind, which has its time too.
    is_part: bool,
}

impl Waiting {
    fn ns_if_whole(self) -> u64 {
        if self.is_part { 0 } else { self.span.ns() }
    }
}

/// What one vCPU did last.
#[derive(Clone, Debug, Default)]
struct Recent {
    fault: Option<(Span, Class)>,
    /// Acts since that fault. One within a fault has its record before the fault's or, between the
    /// leaf and the re-entry, after it.
    acts: VecDeque<Waiting>,
}

/// The acts of one VM.
#[derive(Clone, Debug, Default)]
pub struct Acts {
    is_seen: bool,
    of: BTreeMap<Act, Of>,
    recent: BTreeMap<VcpuId, Recent>,
    sync_ns: BTreeMap<Class, u64>,
    outside_ns: u64,
}

impl Acts {
    /// None yet. `is_seen`: what has no record did not happen.
    pub fn new(is_seen: bool) -> Self {
        Self {
            is_seen,
            ..Self::default()
        }
    }

    /// A fault of the VM.
    pub fn fault(&mut self, row: &FaultRow) {
        if !self.are_seen() {
            return;
        }
        let fault = Span::new(row.time_ns.0, row.total_ns);
        let recent = self.recent.entry(row.vcpu).or_default();
        recent.fault = Some((fault, row.class));
        for waiting in recent.acts.drain(..) {
            if !fault.contains(waiting.span) {
                self.outside_ns = self.outside_ns.saturating_add(waiting.ns_if_whole());
                continue;
            }
            within(&mut self.of, &mut self.sync_ns, row.class, waiting);
        }
    }

    /// An act of the VM.
    pub fn add(&mut self, row: &ActRow) {
        let of = self.of.entry(row.act).or_default();
        of.times.add(row.total_ns, ());
        of.synced = of.synced.saturating_add(row.synced.into());
        of.zapped = of.zapped.saturating_add(row.zapped.into());
        let Some(vcpu) = row.vcpu else { return };
        let waiting = Waiting {
            span: Span::new(row.time_ns.0, row.total_ns),
            act: row.act,
            is_part: false,
        };
        let recent = self.recent.entry(vcpu).or_default();
        if let Some((fault, class)) = recent.fault
            && fault.contains(waiting.span)
        {
            within(&mut self.of, &mut self.sync_ns, class, waiting);
            return;
        }
        // The record of an act comes after those of its parts.
        let before = recent.acts.iter_mut().rev();
        for part in before.take_while(|before| waiting.span.contains(before.span)) {
            part.is_part = true;
        }
        if recent.acts.len() == WAITING
            && let Some(first) = recent.acts.pop_front()
        {
            self.outside_ns = self.outside_ns.saturating_add(first.ns_if_whole());
        }
        recent.acts.push_back(waiting);
    }

    /// Every kind of act has its probe.
    pub fn has_every_kind(&self) -> bool {
        self.is_seen
    }

    /// Acts have records: a kind without one did not happen, unless it has no probe.
    pub fn are_seen(&self) -> bool {
        self.is_seen || !self.of.is_empty()
    }

    /// Time of vCPUs in acts outside of faults, that of an act within another once, ns.
    pub fn outside_ns(&self) -> u64 {
        let waiting = self.recent.values().flat_map(|recent| &recent.acts);
        let waiting = waiting.map(|waiting| waiting.ns_if_whole());
        waiting.fold(self.outside_ns, u64::saturating_add)
    }

    /// Of the time of a class, that in syncs, ns.
    pub fn sync_ns(&self, class: Class) -> u64 {
        self.sync_ns.get(&class).copied().unwrap_or_default()
    }

    /// What each kind cost.
    pub fn costs(&self) -> BTreeMap<&'static str, ActCost> {
        let costs = self.of.iter().map(|(act, of)| {
            let mut times = of.times.clone();
            times.finish();
            let cost = ActCost {
                count: times.count(),
                total_ns: times.total_ns(),
                p50_ns: times.quantile(0.50),
                p95_ns: times.percentile(95),
                p99_ns: times.percentile(99),
                max_ns: times.max(),
                in_faults_ns: of.in_faults_ns,
                synced: of.synced,
                zapped: of.zapped,
            };
            (act.name(), cost)
        });
        costs.collect()
    }
}

/// Counts an act as a part of a fault.
fn within(
    of: &mut BTreeMap<Act, Of>,
    sync_ns: &mut BTreeMap<Class, u64>,
    class: Class,
    act: Waiting,
) {
    let ns = act.span.ns();
    if let Some(of) = of.get_mut(&act.act) {
        of.in_faults_ns = of.in_faults_ns.saturating_add(ns);
    }
    if matches!(act.act, Act::Sync | Act::SyncRoots) {
        *sync_ns.entry(class).or_default() += ns;
    }
}

#[cfg(test)]
mod tests {
    use events::{Seq, TimeNs, VmId};

    use super::*;
    use crate::replay::blank_fault;

    fn fault(time: u64, total_ns: u64) -> FaultRow {
        FaultRow {
            time_ns: TimeNs(time),
            total_ns,
            class: Class::Shadow,
            ..blank_fault(Seq(0))
        }
    }

    fn act(act: Act, vcpu: Option<u16>, time: u64, total_ns: u64) -> ActRow {
        ActRow {
            seq: Seq(0),
            time_ns: TimeNs(time),
            vm: VmId(0),
            vcpu: vcpu.map(VcpuId),
            act,
            total_ns,
            synced: 1,
            zapped: 0,
        }
    }

    /// A sync is within a fault whether its record comes before or after the fault's; one of
    /// another vCPU, of the host, or that only begins within it is not.
    #[test]
    fn a_sync_within_a_fault_is_found() {
        let mut acts = Acts::default();
        acts.add(&act(Act::Sync, Some(0), 50, 10));
        acts.add(&act(Act::Sync, Some(0), 110, 20));
        acts.add(&act(Act::Sync, Some(1), 110, 40));
        acts.fault(&fault(100, 100));
        acts.add(&act(Act::SyncRoots, Some(0), 195, 5));
        acts.add(&act(Act::SyncRoots, Some(0), 199, 2));
        acts.add(&act(Act::Unmap, None, 120, 7));
        assert_eq!(acts.sync_ns(Class::Shadow), 25);
        assert_eq!(acts.sync_ns(Class::Guest), 0);
        let costs = acts.costs();
        let of = |name| {
            (
                costs[name].count,
                costs[name].total_ns,
                costs[name].in_faults_ns,
            )
        };
        assert_eq!(of("sync"), (3, 70, 20));
        assert_eq!(of("sync_roots"), (2, 7, 5));
        assert_eq!(of("unmap"), (1, 7, 0));
        assert_eq!((costs["sync"].p50_ns, costs["sync"].max_ns), (20, 40));
    }

    /// Of nested acts outside of faults only the outermost counts; the host's are no vCPU's time.
    #[test]
    fn time_outside_of_faults_counts_once() {
        let mut acts = Acts::new(true);
        acts.fault(&fault(100, 100));
        acts.add(&act(Act::SyncRoots, Some(0), 190, 10));
        acts.add(&act(Act::ZapPage, Some(0), 310, 10));
        acts.add(&act(Act::ZapPage, Some(0), 330, 10));
        acts.add(&act(Act::WriteZap, Some(0), 300, 50));
        acts.add(&act(Act::Invlpg, Some(0), 400, 7));
        acts.add(&act(Act::Unmap, None, 400, 1000));
        assert_eq!(acts.outside_ns(), 57);
        acts.fault(&fault(399, 20));
        assert_eq!(acts.outside_ns(), 50, "the fault has the last one");
        acts.add(&act(Act::Sync, Some(1), 500, 3));
        assert_eq!(acts.outside_ns(), 53);
    }

    /// An act that waits longer than any fault lasts is outside of faults.
    #[test]
    fn acts_that_wait_are_bounded() {
        let mut acts = Acts::new(true);
        for at in 0..3 * WAITING as u64 {
            acts.add(&act(Act::Invlpg, Some(0), at * 10, 1));
        }
        assert_eq!(acts.recent[&VcpuId(0)].acts.len(), WAITING);
        assert_eq!(acts.outside_ns(), 3 * WAITING as u64);
    }
}
