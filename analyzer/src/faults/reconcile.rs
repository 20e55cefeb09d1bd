//! The trace's counts compared with KVM's own counters, by the rules of [`super::counters`].

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use trace::{Counters, Mode, Sees, Stores, VmMeta};

use super::{
    Counts,
    counters::{Evidence, Kept, OF_THE_MMU, RULES, Rule},
};
use crate::replay::VmReplay;

/// How a counter and the trace relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// They count the same.
    Equal,
    /// KVM counts more places than the probes see: at least the trace's number.
    AtLeast,
    /// KVM counts a part of what the trace has: at most the trace's number.
    AtMost,
    /// Nothing in the trace can be compared with it.
    NotCompared,
}

/// One line of the reconciliation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconciled {
    /// KVM's name of the counter.
    pub counter: Cow<'static, str>,
    /// How much it grew; for a gauge, its value at the end.
    pub kvm: i64,
    /// What the trace counted; none where nothing can be compared.
    pub trace: Option<i64>,
    /// How they must relate.
    pub relation: Relation,
    /// Whether they do.
    pub agrees: bool,
    /// That in words: `equal`, `at most`, `at least`, `DIFFERS` or `not compared`.
    pub verdict: &'static str,
    /// What the counter counts.
    pub counts: &'static str,
    /// Why it is not compared, if it is not.
    pub why: Option<&'static str>,
}

impl Reconciled {
    /// KVM's number less the trace's; zero where nothing is compared.
    pub fn difference(&self) -> i64 {
        self.trace.map_or(0, |trace| self.kvm.saturating_sub(trace))
    }
}

/// Compares the trace with KVM's counters; rules without a counter on this kernel are left out, and
/// MMU counters without a rule are shown and not compared. `None` if the trace has no counters
/// from the end: it was cut, or the VM ended before they could be read.
pub fn reconcile(
    counts: &Counts,
    meta: &VmMeta,
    sees: Sees,
    replay: Option<&VmReplay>,
) -> Option<Vec<Reconciled>> {
    let after = meta.counters_after.as_ref()?;
    let before = &meta.counters_before;
    let known = replay.filter(|replay| replay.knows_the_beginning());
    let evidence = Evidence {
        counts,
        tables: known.map(VmReplay::tables),
        stores_seen: sees.stores == Stores::All,
        vcpus: after.vcpus.len(),
    };
    let lines = RULES.iter().filter_map(|rule| {
        let kvm = value(rule.counter, rule.kept, before, after)?;
        Some(line(rule, kvm, &evidence, meta.mode))
    });
    Some(lines.chain(without_rule(before, after)).collect())
}

fn line(rule: &Rule, kvm: i64, evidence: &Evidence, mode: Mode) -> Reconciled {
    let compared = rule
        .relation(mode)
        .and_then(|relation| Ok((relation, (rule.trace)(evidence)?)));
    let (relation, trace, why) = match compared {
        Ok((relation, trace)) => (relation, Some(trace), None),
        Err(why) => (Relation::NotCompared, None, Some(why)),
    };
    let agrees = match (trace, relation) {
        (None, _) | (_, Relation::NotCompared) => true,
        (Some(trace), Relation::Equal) => kvm == trace,
        (Some(trace), Relation::AtLeast) => kvm >= trace,
        (Some(trace), Relation::AtMost) => kvm <= trace,
    };
    Reconciled {
        counter: rule.counter.into(),
        kvm,
        trace,
        relation,
        agrees,
        verdict: match (relation, agrees) {
            (Relation::NotCompared, _) => "not compared",
            (_, false) => "DIFFERS",
            (_, true) if trace == Some(kvm) => "equal",
            (Relation::AtMost, true) => "at most",
            (_, true) => "at least",
        },
        counts: rule.counts,
        why,
    }
}

/// Counters that only some kernels have, and that no rule knows.
fn without_rule(before: &Counters, after: &Counters) -> Vec<Reconciled> {
    let of_vm = after.vm.keys().map(|name| (name, Kept::Vm));
    let of_vcpu = after.vcpus.iter().take(1);
    let of_vcpu = of_vcpu.flat_map(|counters| counters.keys().map(|name| (name, Kept::Vcpu)));
    let has_no_rule = |name: &str| {
        OF_THE_MMU.iter().any(|start| name.starts_with(start))
            && RULES.iter().all(|rule| rule.counter != name)
    };
    of_vm
        .chain(of_vcpu)
        .filter(|(name, _)| has_no_rule(name))
        .filter_map(|(name, kept)| {
            Some(Reconciled {
                counter: name.clone().into(),
                kvm: value(name, kept, before, after)?,
                trace: None,
                relation: Relation::NotCompared,
                agrees: true,
                verdict: "not compared",
                counts: "a counter that only this kernel has",
                why: Some("the analyzer does not know what it counts"),
            })
        })
        .collect()
}

fn value(name: &str, kept: Kept, before: &Counters, after: &Counters) -> Option<i64> {
    let of = |counters: &BTreeMap<String, u64>| counters.get(name).copied();
    let (before, after) = match kept {
        Kept::Vm => (of(&before.vm).unwrap_or_default(), of(&after.vm)?),
        Kept::Gauge => (0, of(&after.vm)?),
        Kept::Vcpu => {
            // Each vCPU must be there at the end; one that came later began at zero.
            if after.vcpus.is_empty() || after.vcpus.len() < before.vcpus.len() {
                return None;
            }
            let before = before.vcpus.iter().filter_map(of);
            let after = after.vcpus.iter().map(of).collect::<Option<Vec<_>>>()?;
            (
                before.fold(0_u64, u64::saturating_add),
                after.into_iter().fold(0_u64, u64::saturating_add),
            )
        }
    };
    // A gauge may have shrunk.
    Some(after.wrapping_sub(before).cast_signed())
}

#[cfg(test)]
mod tests {
    use events::{Class, Gfn, Hpa, Level, PageEvent, Role, RoleLayout, Seq, TimeNs, VmId};
    use trace::{PageRow, Record};

    use super::*;
    use crate::replay::{Replay, ReplayOptions, blank_fault};

    fn counters(values: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let values = values.iter();
        values
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    /// The line of `counter`, of a VM whose only counter it is.
    fn reconciled(counts: &Counts, counter: &str, of_vcpu: bool, kvm: &[u64]) -> Reconciled {
        let each = kvm.iter().map(|value| counters(&[(counter, *value)]));
        let after = Counters {
            vm: match of_vcpu {
                true => BTreeMap::new(),
                false => counters(&[(counter, kvm.iter().sum())]),
            },
            vcpus: match of_vcpu {
                true => each.collect(),
                false => vec![BTreeMap::new(); kvm.len()],
            },
        };
        let meta = VmMeta {
            counters_after: Some(after),
            ..VmMeta::default()
        };
        let mut replay = Replay::new(ReplayOptions {
            role: RoleLayout::default(),
            from_birth: true,
            sees_every_change: true,
            keyframe_roots: false,
        });
        replay.apply(&Record::Fault(blank_fault(Seq(0))));
        // Three leaf tables go unsync. One is zapped by a thread of the host; that is the only
        // record of its end.
        for (spt, event) in [
            (0x1000, PageEvent::Born),
            (0x2000, PageEvent::Born),
            (0x3000, PageEvent::Born),
            (0x1000, PageEvent::Unsync),
            (0x2000, PageEvent::Unsync),
            (0x3000, PageEvent::Unsync),
            (0x2000, PageEvent::Zapped),
        ] {
            replay.apply(&page(Hpa(spt), event));
        }
        let sees = Sees {
            every_change: true,
            stores: Stores::All,
            from_birth: true,
            emulated: false,
            keyframe_roots: false,
            acts: false,
        };
        let lines = reconcile(counts, &meta, sees, replay.vm(VmId(0)));
        let mut lines = lines.unwrap_or_default().into_iter();
        let line = lines.next().expect("a line of the only counter");
        assert_eq!(line.counter, counter);
        assert!(lines.next().is_none());
        line
    }

    fn page(spt: Hpa, event: PageEvent) -> Record {
        Record::Page(PageRow {
            seq: Seq(1),
            time_ns: TimeNs(1),
            vm: VmId(0),
            vcpu: None,
            event,
            spt,
            gfn: Gfn(spt.0 >> 12),
            role: Role(1),
            level: Level(1),
            direct: 0,
            unsync: 0,
        })
    }

    fn agrees(counts: &Counts, counter: &str, of_vcpu: bool, kvm: u64) -> bool {
        reconciled(counts, counter, of_vcpu, &[kvm]).agrees
    }

    #[test]
    fn each_relation_holds_up_to_its_bound() {
        let counts = Counts {
            classes: [(Class::Guest, 5), (Class::Spurious, 3)].into(),
            pages: [(PageEvent::Zapped, 7)].into(),
            ..Counts::default()
        };
        let seen = |counter, of_vcpu| {
            [2, 3, 4, 5, 6, 7, 8].map(|kvm| agrees(&counts, counter, of_vcpu, kvm))
        };
        let (t, f) = (true, false);
        assert_eq!(seen("pf_spurious", true), [f, t, f, f, f, f, f]);
        assert_eq!(seen("pf_guest", true), [f, f, f, t, t, t, t]);
        assert_eq!(seen("mmu_recycled", false), [t, t, t, t, t, t, f]);
        assert_eq!(seen("pages_4k", false), [f; 7], "no leaf at the end");
        assert_eq!(seen("tlb_flush", true), [t; 7], "not compared");
        let unsync = seen("mmu_unsync", false);
        assert_eq!(unsync, [t, f, f, f, f, f, f], "one of three was zapped");
    }

    #[test]
    fn counters_of_several_vcpus_are_summed() {
        let counts = Counts {
            classes: [(Class::Spurious, 3)].into(),
            ..Counts::default()
        };
        let line = reconciled(&counts, "pf_spurious", true, &[1, 2]);
        assert_eq!((line.kvm, line.trace, line.agrees), (3, Some(3), true));
        assert_eq!(line.verdict, "equal");
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let none = Counts::default();
        let line = reconciled(&none, "mmu_pde_zapped", false, &[1, 1]);
        assert_eq!((line.relation, line.trace), (Relation::NotCompared, None));
        assert!(line.why.is_some_and(|why| why.contains("several vCPUs")));
        let line = reconciled(&none, "mmu_pde_zapped", false, &[0]);
        assert_eq!((line.relation, line.trace), (Relation::AtMost, Some(0)));
        let line = reconciled(&none, "mmu_of_tomorrow", false, &[9]);
        assert_eq!(
            (line.relation, line.kvm, line.agrees),
            (Relation::NotCompared, 9, true)
        );
        assert!(line.why.is_some());
    }
}
