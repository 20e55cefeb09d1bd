//! The trace's counts set against KVM's own counters.
//!
//! Each rule says where KVM adds to the counter (function of `arch/x86/kvm/mmu`, the same in
//! Linux 6.1 to 7.2 unless said otherwise) and what of the trace it must equal.

use std::collections::BTreeMap;

use events::{Class, PageEvent};
use serde::Serialize;
use trace::{Counters, ProbeState, VmMeta};

use super::Counts;

/// How a counter and the trace relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// They count the same.
    Equal,
    /// KVM counts more places than the probes see: at least the trace's number.
    AtLeast,
    /// KVM counts something else besides; both are shown, and prove nothing.
    NotCompared,
}

/// One line of the reconciliation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconciled {
    /// KVM's name of the counter.
    pub counter: &'static str,
    /// How much it grew.
    pub kvm: i64,
    /// What the trace counted.
    pub trace: i64,
    /// How they must relate.
    pub relation: Relation,
    /// Whether they do.
    pub agrees: bool,
    /// What the counter counts.
    pub counts: &'static str,
}

/// Where KVM keeps a counter.
#[derive(Clone, Copy)]
enum Scope {
    Vm,
    Vcpu,
}

struct Rule {
    counter: &'static str,
    scope: Scope,
    relation: Relation,
    trace: fn(&Counts) -> i64,
    counts: &'static str,
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The rules, in the order in which they are shown.
const RULES: &[Rule] = &[
    Rule {
        counter: "pf_taken",
        scope: Scope::Vcpu,
        relation: Relation::Equal,
        trace: |counts| signed(counts.faults() - counts.mmio_markers),
        counts: "faults that reached the MMU (kvm_mmu_do_page_fault)",
    },
    Rule {
        counter: "pf_fixed",
        scope: Scope::Vcpu,
        relation: Relation::Equal,
        trace: |counts| {
            signed(
                counts.class(Class::Shadow)
                    + counts.class(Class::Unsync)
                    + counts.class(Class::Fast),
            )
        },
        counts: "faults that ended with RET_PF_FIXED: shadow, unsync, fast",
    },
    Rule {
        counter: "pf_guest",
        scope: Scope::Vcpu,
        relation: Relation::AtLeast,
        trace: |counts| signed(counts.class(Class::Guest)),
        counts: "page faults injected (kvm_inject_page_fault), those of the emulator included",
    },
    Rule {
        counter: "pf_emulate",
        scope: Scope::Vcpu,
        relation: Relation::Equal,
        trace: |counts| {
            signed(
                counts.class(Class::WriteProtected) + counts.class(Class::Mmio)
                    - counts.mmio_markers,
            )
        },
        counts: "faults that ended with emulation: write_protected, mmio (not on a marker for MMIO)",
    },
    Rule {
        counter: "pf_spurious",
        scope: Scope::Vcpu,
        relation: Relation::Equal,
        trace: |counts| signed(counts.class(Class::Spurious)),
        counts: "faults that found their entry in place (RET_PF_SPURIOUS)",
    },
    Rule {
        counter: "pf_fast",
        scope: Scope::Vcpu,
        relation: Relation::Equal,
        trace: |counts| signed(counts.class(Class::Fast)),
        counts: "faults fixed without mmu_lock (fast_page_fault)",
    },
    Rule {
        counter: "mmu_cache_miss",
        scope: Scope::Vm,
        relation: Relation::Equal,
        trace: |counts| signed(counts.page(PageEvent::Born)),
        counts: "shadow pages made (kvm_mmu_get_shadow_page)",
    },
    Rule {
        counter: "mmu_shadow_zapped",
        scope: Scope::Vm,
        relation: Relation::Equal,
        trace: |counts| signed(counts.page(PageEvent::Zapped)),
        counts: "shadow pages zapped (__kvm_mmu_prepare_zap_page)",
    },
    Rule {
        counter: "mmu_unsync",
        scope: Scope::Vm,
        relation: Relation::Equal,
        trace: |counts| {
            signed(counts.page(PageEvent::Unsync)) - signed(counts.page(PageEvent::Sync))
        },
        counts: "pages unsync now: made unsync minus synced (kvm_unsync_page, kvm_unlink_unsync_page)",
    },
];

/// The step of the recorder's plan that makes a record of each emulated store.
const TRACK_WRITE: &str = "kvm_mmu_track_write";

/// The rule of `mmu_pte_write`: it can be compared only where each store is a record. KVM counts
/// one only while it shadows any guest table.
fn pte_write(probes: &[ProbeState]) -> Rule {
    let rule = Rule {
        counter: "mmu_pte_write",
        scope: Scope::Vm,
        relation: Relation::NotCompared,
        trace: |counts| signed(counts.class(Class::WriteProtected)),
        counts: "every emulated store while a guest table is shadowed (kvm_mmu_track_write), to tables or not",
    };
    let seen = |probe: &ProbeState| probe.attached && probe.name == TRACK_WRITE;
    if probes.iter().any(seen) {
        Rule {
            relation: Relation::Equal,
            trace: |counts| signed(counts.writes_while_shadowing),
            ..rule
        }
    } else {
        rule
    }
}

/// Sets the trace against KVM's counters; rules without a counter on this kernel are left out.
/// `None` if the trace has no counters of the end: it was cut, or the VM took them with it.
pub fn reconcile(counts: &Counts, meta: &VmMeta, probes: &[ProbeState]) -> Option<Vec<Reconciled>> {
    let after = meta.counters_after.as_ref()?;
    let line = |rule: &Rule| {
        let kvm = grown(rule, &meta.counters_before, after)?;
        let trace = (rule.trace)(counts);
        let agrees = match rule.relation {
            Relation::Equal => kvm == trace,
            Relation::AtLeast => kvm >= trace,
            Relation::NotCompared => true,
        };
        let Rule {
            counter,
            relation,
            counts,
            ..
        } = *rule;
        Some(Reconciled {
            counter,
            kvm,
            trace,
            relation,
            agrees,
            counts,
        })
    };
    let last = pte_write(probes);
    Some(RULES.iter().chain([&last]).filter_map(line).collect())
}

fn grown(rule: &Rule, before: &Counters, after: &Counters) -> Option<i64> {
    let of = |counters: &BTreeMap<String, u64>| counters.get(rule.counter).copied();
    let (before, after) = match rule.scope {
        Scope::Vm => (of(&before.vm).unwrap_or_default(), of(&after.vm)?),
        Scope::Vcpu => {
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
    // Unsigned to signed: a gauge may have shrunk.
    Some(after.wrapping_sub(before) as i64)
}
