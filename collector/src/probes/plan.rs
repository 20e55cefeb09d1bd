//! What is attached where.

/// A program and the tracepoint it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the program, which is also the tracepoint's.
    pub name: &'static str,
    /// Without it nothing useful is recorded.
    pub required: bool,
    /// What it shows.
    pub shows: &'static str,
    /// What the results lack without it.
    pub without: &'static str,
}

/// Every raw tracepoint program, in the order in which they are attached: what ends a fault
/// before what begins one.
pub const PLAN: &[Hook] = &[
    Hook {
        name: "kvm_mmu_prepare_zap_page",
        required: true,
        shows: "shadow pages zapped",
        without: "replayed tables keep pages that are gone",
    },
    Hook {
        name: "kvm_mmu_get_page",
        required: true,
        shows: "shadow pages created and reused; a link follows",
        without: "no shadow tables can be rebuilt",
    },
    Hook {
        name: "kvm_mmu_sync_page",
        required: true,
        shows: "unsync pages brought in line",
        without: "replayed tables go stale at a TLB flush of the guest",
    },
    Hook {
        name: "kvm_mmu_unsync_page",
        required: true,
        shows: "leaf tables that the guest may write; class unsync",
        without: "unsync faults look like shadow faults",
    },
    Hook {
        name: "kvm_mmu_set_spte",
        required: true,
        shows: "the leaf SPTE, its place and level; prefetched neighbours; end of a fault",
        without: "no shadow entry is seen",
    },
    Hook {
        name: "kvm_mmu_spte_requested",
        required: true,
        shows: "gfn, memslot, HVA and pfn; upper levels linked",
        without: "no shadow fault is seen",
    },
    Hook {
        name: "kvm_inj_exception",
        required: false,
        shows: "the guest's own faults injected",
        without: "a guest's own fault has no injection time and is recorded late",
    },
    Hook {
        name: "kvm_mmu_walker_error",
        required: true,
        shows: "the guest's own tables refuse the access",
        without: "the guest's own faults look retried",
    },
    Hook {
        name: "kvm_mmu_paging_element",
        required: true,
        shows: "the guest entries walked, level by level; end of the walk",
        without: "no fault has its guest entries",
    },
    Hook {
        name: "kvm_userspace_exit",
        required: false,
        shows: "KVM_RUN returns: closes what is under way",
        without: "a fault without a leaf SPTE may be recorded late",
    },
    Hook {
        name: "kvm_mmu_pagetable_walk",
        required: true,
        shows: "begin of a fault: address and error code",
        without: "no fault is seen",
    },
];

/// Steps of a fault that raw tracepoints alone do not show, with what would.
pub const UNSEEN: &[(&str, &str)] = &[
    (
        "exit_ns",
        "needs kvm_exit or kvm_page_fault to fire for guest faults",
    ),
    (
        "pfn_ns, tables_ns",
        "needs a probe on kvm_faultin_pfn or kvm_mmu_faultin_pfn; their sum is pfn_tables_ns",
    ),
    ("entry_ns", "needs kvm_entry to fire on re-entry"),
];
