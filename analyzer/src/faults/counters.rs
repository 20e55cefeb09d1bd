//! What each of KVM's MMU counters counts, and what in a trace it can be compared with.
//!
//! Each rule names the function of `arch/x86/kvm/mmu` that adds to the counter, in Linux 6.1 to 7.2
//! unless it says otherwise. A rule is as strict as the kernel's source allows: a bound where KVM
//! counts a part of what the trace has, or the trace a part of what KVM counts.

use events::{Cause, Class, PageEvent};
use trace::Mode;

use super::{Counts, Relation};
use crate::replay::{ShadowTables, Totals};

/// What a trace has to compare the counters with.
pub(super) struct Evidence<'a> {
    pub(super) counts: &'a Counts,
    /// The tables at the end; none where they were never known.
    pub(super) tables: Option<&'a ShadowTables>,
    /// Every emulated store is a record.
    pub(super) stores_seen: bool,
    /// How many vCPUs there are.
    pub(super) vcpus: usize,
}

impl Evidence<'_> {
    fn class(&self, class: Class) -> i64 {
        signed(self.counts.class(class))
    }

    fn page(&self, event: PageEvent) -> i64 {
        signed(self.counts.page(event))
    }

    fn totals(&self) -> Result<&Totals, &'static str> {
        self.tables.map(ShadowTables::totals).ok_or(UNKNOWN_TABLES)
    }
}

/// Where KVM keeps a counter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// For the VM; how much it grew while recording is compared.
    Vm,
    /// For the VM; how much there is at the end is compared.
    Gauge,
    /// For each vCPU; the sum of what each grew is compared.
    Vcpu,
}

/// A counter and what it must equal or stay within, or why nothing in a trace compares.
pub(super) struct Rule {
    pub(super) counter: &'static str,
    pub(super) kept: Kept,
    pub(super) relation: Relation,
    pub(super) trace: fn(&Evidence) -> Result<i64, &'static str>,
    /// What KVM counts, and for a bound why the trace's number is one.
    pub(super) counts: &'static str,
}

impl Rule {
    /// How the counter relates where only nested guests have shadow tables: KVM counts what its TDP
    /// MMU does for the guest hypervisor in the same counters.
    pub(super) fn relation(&self, mode: Mode) -> Result<Relation, &'static str> {
        match self.counter {
            _ if !mode.is_nested() => Ok(self.relation),
            "pf_guest" => Err("a fault of a nested guest leaves as its exit, which is not counted"),
            "pf_mmio_spte_created" | "pages_4k" | "pages_2m" | "pages_1g" | "nx_lpage_splits" => {
                Err("counts entries of the TDP MMU, which maps the guest hypervisor, too")
            }
            counter if counter.starts_with("pf_") => Ok(Relation::AtLeast),
            _ => Ok(self.relation),
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Why a number of the tables is not known.
const UNKNOWN_TABLES: &str = "no keyframe has the tables of this VM, which was found running";
/// Why a store cannot be counted.
const NO_STORES: &str = "not every emulated store has a record";

/// The rules, in the order in which they are shown.
pub(super) const RULES: &[Rule] = &[
    Rule {
        counter: "pf_taken",
        kept: Kept::Vcpu,
        relation: Relation::Equal,
        trace: |of| Ok(signed(of.counts.faults()) - signed(of.counts.mmio_markers)),
        counts: "faults that reached the MMU (kvm_mmu_do_page_fault)",
    },
    Rule {
        counter: "pf_fixed",
        kept: Kept::Vcpu,
        relation: Relation::Equal,
        trace: |of| {
            let classes = [Class::Shadow, Class::Unsync, Class::Fast];
            Ok(classes.map(|class| of.class(class)).iter().sum())
        },
        counts: "faults that ended with RET_PF_FIXED: shadow, unsync, fast",
    },
    Rule {
        counter: "pf_guest",
        kept: Kept::Vcpu,
        relation: Relation::AtLeast,
        trace: |of| Ok(of.class(Class::Guest)),
        counts: "page faults injected (kvm_inject_page_fault), those of the emulator included",
    },
    Rule {
        counter: "pf_emulate",
        kept: Kept::Vcpu,
        relation: Relation::Equal,
        trace: |of| {
            Ok(of.class(Class::WriteProtected) + of.class(Class::Mmio)
                - signed(of.counts.mmio_markers))
        },
        counts: "faults that ended with emulation: write_protected, mmio (not on a marker for \
                 MMIO)",
    },
    Rule {
        counter: "pf_spurious",
        kept: Kept::Vcpu,
        relation: Relation::Equal,
        trace: |of| Ok(of.class(Class::Spurious)),
        counts: "faults that found their entry in place (RET_PF_SPURIOUS)",
    },
    Rule {
        counter: "pf_fast",
        kept: Kept::Vcpu,
        relation: Relation::Equal,
        trace: |of| Ok(of.class(Class::Fast)),
        counts: "faults fixed without mmu_lock (fast_page_fault)",
    },
    Rule {
        counter: "pf_mmio_spte_created",
        kept: Kept::Vcpu,
        relation: Relation::AtMost,
        trace: |of| Ok(signed(of.counts.cause(Cause::Mmio))),
        counts: "markers for MMIO made by faults (mmu_set_spte); the trace has those that a \
                 sync renews too",
    },
    Rule {
        counter: "mmu_cache_miss",
        kept: Kept::Vm,
        relation: Relation::Equal,
        trace: |of| Ok(of.page(PageEvent::Born)),
        counts: "shadow pages made (kvm_mmu_get_shadow_page)",
    },
    Rule {
        counter: "mmu_shadow_zapped",
        kept: Kept::Vm,
        relation: Relation::Equal,
        trace: |of| Ok(of.page(PageEvent::Zapped)),
        counts: "shadow pages zapped (__kvm_mmu_prepare_zap_page); a root in use is counted twice",
    },
    Rule {
        counter: "mmu_recycled",
        kept: Kept::Vm,
        relation: Relation::AtMost,
        trace: |of| Ok(of.page(PageEvent::Zapped)),
        counts: "pages zapped to make room (kvm_mmu_zap_oldest_mmu_pages): some of those zapped",
    },
    Rule {
        counter: "mmu_flooded",
        kept: Kept::Vm,
        relation: Relation::AtMost,
        trace: |of| {
            Ok(match of.stores_seen {
                true => signed(of.counts.zapped_after_write),
                false => of.page(PageEvent::Zapped),
            })
        },
        counts: "pages zapped by a store that is misaligned or one too many \
                 (detect_write_flooding): some of those zapped after a store to their table",
    },
    Rule {
        counter: "mmu_pte_write",
        kept: Kept::Vm,
        relation: Relation::Equal,
        trace: |of| match of.stores_seen {
            true => Ok(signed(of.counts.writes_while_shadowing)),
            false => Err(NO_STORES),
        },
        counts: "every emulated store while a guest table is shadowed (kvm_mmu_track_write), to \
                 tables or not",
    },
    Rule {
        counter: "mmu_pde_zapped",
        kept: Kept::Vm,
        relation: Relation::AtMost,
        trace: |of| match (of.stores_seen, of.vcpus) {
            (false, _) => Err(NO_STORES),
            // A page is made by another vCPU after the record of a store and before its effect.
            (true, 2..) => Err(
                "a store's record comes before mmu_lock is taken, so with several vCPUs the pages \
                 that it met are not known",
            ),
            (true, _) if of.tables.is_none() || of.counts.writes_before_tables > 0 => {
                Err(UNKNOWN_TABLES)
            }
            (true, _) => Ok(signed(of.counts.upper_entries_written)),
        },
        counts: "entries above the leaf tables that a store changed to something \
                 (kvm_mmu_track_write): at most one for each page that shadows the table, none \
                 where the page is zapped or zero stored",
    },
    Rule {
        counter: "mmu_unsync",
        kept: Kept::Gauge,
        relation: Relation::Equal,
        trace: |of| Ok(signed(of.totals()?.unsync)),
        counts: "pages unsync at the end: made unsync and neither synced nor zapped since \
                 (kvm_unsync_page, kvm_unlink_unsync_page)",
    },
    Rule {
        counter: "mmu_shadow_pages",
        kept: Kept::Gauge,
        relation: Relation::AtLeast,
        trace: |of| Ok(signed(of.totals()?.all_pages())),
        counts: "shadow pages now, with zapped roots that are still in use \
                 (kvm_account_mmu_page, Linux 7.2)",
    },
    Rule {
        counter: "pages_4k",
        kept: Kept::Gauge,
        relation: Relation::Equal,
        trace: |of| Ok(signed(of.totals()?.leaves_at[0])),
        counts: "leaves of 4 KiB at the end (kvm_update_page_stats)",
    },
    Rule {
        counter: "pages_2m",
        kept: Kept::Gauge,
        relation: Relation::Equal,
        trace: |of| Ok(signed(of.totals()?.leaves_at[1])),
        counts: "leaves of 2 MiB at the end (kvm_update_page_stats)",
    },
    Rule {
        counter: "pages_1g",
        kept: Kept::Gauge,
        relation: Relation::Equal,
        trace: |of| Ok(signed(of.totals()?.leaves_at[2])),
        counts: "leaves of 1 GiB at the end (kvm_update_page_stats)",
    },
    Rule {
        counter: "nx_lpage_splits",
        kept: Kept::Gauge,
        relation: Relation::AtMost,
        trace: |of| {
            let totals = of.totals()?;
            Ok(signed(totals.all_pages() - totals.indirect))
        },
        counts: "pages that split a large one so that it can be executed \
                 (account_nx_huge_page): some of the direct pages",
    },
    Rule {
        counter: "invlpg",
        kept: Kept::Vcpu,
        relation: Relation::NotCompared,
        trace: |_| Err("only the entries that it changes have records"),
        counts: "INVLPG of the guest (kvm_mmu_invlpg)",
    },
    Rule {
        counter: "tlb_flush",
        kept: Kept::Vcpu,
        relation: Relation::NotCompared,
        trace: |_| Err("a flush has no record"),
        counts: "flushes of a vCPU's TLB (kvm_vcpu_flush_tlb_all and the like)",
    },
    Rule {
        counter: "remote_tlb_flush",
        kept: Kept::Vm,
        relation: Relation::NotCompared,
        trace: |_| Err("a flush has no record"),
        counts: "flushes of every vCPU's TLB that were done (kvm_flush_remote_tlbs)",
    },
    Rule {
        counter: "remote_tlb_flush_requests",
        kept: Kept::Vm,
        relation: Relation::NotCompared,
        trace: |_| Err("a flush has no record"),
        counts: "flushes of every vCPU's TLB that were asked for (kvm_flush_remote_tlbs)",
    },
    Rule {
        counter: "max_mmu_page_hash_collisions",
        kept: Kept::Gauge,
        relation: Relation::NotCompared,
        trace: |_| Err("the hash buckets are in no record"),
        counts: "most pages passed over in a bucket of the hash of shadow pages \
                 (kvm_mmu_find_shadow_page)",
    },
    Rule {
        counter: "max_mmu_rmap_size",
        kept: Kept::Gauge,
        relation: Relation::NotCompared,
        trace: |_| Err("KVM keeps one list for each address space, and no record names it"),
        counts: "most leaves that one frame had when another was added (__rmap_add)",
    },
];

/// Beginnings of the names of MMU counters: those without a rule are shown, too.
pub(super) const OF_THE_MMU: [&str; 6] = ["mmu_", "max_mmu_", "pf_", "pages_", "nx_", "tlb_"];
