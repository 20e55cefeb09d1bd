//! What is attached where: for each step of a fault and each kind of change, the hooks that show
//! it, the best first.
//!
//! A raw tracepoint that marks a moment exactly is preferred to a probe on the function around it:
//! it costs a third. Functions are hooked where there is no tracepoint. `mmu_set_spte` and
//! `make_spte` are not hooked, since `kvm_mmu_spte_requested` and `kvm_mmu_set_spte` come right
//! before and after them. Clones with a suffix (`.isra.0`) are not hooked either: BTF does not
//! describe their arguments.

use super::step::{Attachment, Step, entry, optional, required, ret, tracepoint};

/// Which thread runs which vCPU: only attached for VMs of other processes.
pub const RUNNING: Step = required(
    "running",
    &[
        &[entry(
            "kvm_arch_vcpu_ioctl_run",
            "kvm_arch_vcpu_ioctl_run",
            &["vcpu"],
        )],
        &[tracepoint("sys_enter", &["regs", "id"])],
    ],
    "the thread that runs a vCPU, at every KVM_RUN",
    "no thread of another process is known as a vCPU's",
);

/// A thread ends: attached with the plan, on every kernel.
pub const THREAD_ENDS: Step = optional(
    "sched_process_exit",
    &[&[tracepoint("sched_process_exit", &[])]],
    "threads that end",
    "a new thread with the id of a vCPU's thread that ended is taken for the vCPU",
);

/// The innermost cause of a change ends when its function returns.
const ENDS: &str = "cause_ends";

/// While `function` runs, changes have its cause. Its return is hooked first, so that no cause
/// begins without an end.
const fn during(
    function: &'static str,
    begins: &'static str,
    reads: &'static [&'static str],
) -> [Attachment; 2] {
    [ret(ENDS, function), entry(begins, function, reads)]
}

/// Step whose functions make every change that no tracepoint announces.
pub const EVERY_CHANGE: &str = "mmu_spte_update";
/// Step whose function begins every fault.
pub const EVERY_FAULT: &str = "kvm_mmu_page_fault";
/// Step whose functions make a record of every store that KVM emulates.
pub const EVERY_STORE: &str = "kvm_mmu_track_write";
/// Steps whose functions are timed: with all of them, every act of KVM has a record.
pub const EVERY_ACT: &[&str] = &[
    EVERY_STORE,
    "__kvm_sync_page",
    "kvm_mmu_sync_roots",
    "__kvm_mmu_invalidate_addr",
    "__kvm_mmu_prepare_zap_page",
    "kvm_unmap_gfn_range",
    "kvm_mmu_slot_remove_write_access",
    "kvm_arch_mmu_enable_log_dirty_pt_masked",
    "kvm_zap_gfn_range",
    "kvm_arch_flush_shadow_memslot",
];

/// What a change lacks without the function that makes it.
const NO_CAUSE: &str = "such changes have the cause `other`";
/// How the changes of unsync pages are seen where no function can be hooked.
const BY_COPY: &str = "such changes are seen at the vCPU's next event, by a comparison with a copy";
/// How the host's changes are seen there.
const IN_KEYFRAMES: &str =
    "what the built-in VMM does has a record; such changes by others are seen in keyframes";

/// Every step, in the order in which they are attached: what ends a fault before what begins one.
pub const PLAN: &[Step] = &[
    required(
        "kvm_mmu_prepare_zap_page",
        &[&[tracepoint("kvm_mmu_prepare_zap_page", &["sp"])]],
        "shadow pages zapped",
        "replayed tables keep pages that are gone",
    ),
    required(
        "kvm_mmu_get_page",
        &[&[tracepoint("kvm_mmu_get_page", &["sp", "created"])]],
        "shadow pages created and reused; a link follows",
        "no shadow tables can be rebuilt",
    ),
    required(
        "kvm_mmu_sync_page",
        &[&[tracepoint("kvm_mmu_sync_page", &["sp"])]],
        "unsync pages synced",
        "replayed tables go stale at a TLB flush of the guest",
    ),
    required(
        "kvm_mmu_unsync_page",
        &[&[tracepoint("kvm_mmu_unsync_page", &["sp"])]],
        "leaf tables that the guest may write; class unsync",
        "unsync faults look like shadow faults",
    ),
    optional(
        "mark_mmio_spte",
        &[&[tracepoint("mark_mmio_spte", &["sptep", "gfn", "spte"])]],
        "markers for MMIO in the shadow tables",
        "such markers are seen only in keyframes",
    ),
    optional(
        "fast_page_fault",
        &[&[tracepoint(
            "fast_page_fault",
            &["vcpu", "fault", "sptep", "old_spte"],
        )]],
        "write access given back without mmu_lock",
        "such a change is seen only in keyframes",
    ),
    optional(
        EVERY_CHANGE,
        &[&[
            entry("mmu_spte_update", "mmu_spte_update", &["sptep", "new_spte"]),
            entry(
                "mmu_spte_clear_track_bits",
                "mmu_spte_clear_track_bits",
                &["", "sptep"],
            ),
            entry("mmu_page_zap_pte", "mmu_page_zap_pte", &["", "", "spte"]),
            entry(
                "kvm_zap_all_rmap_sptes",
                "kvm_zap_all_rmap_sptes",
                &["kvm", "rmap_head"],
            ),
        ]],
        "every SPTE that changes outside a fault: old value, new value",
        "stores, INVLPG and sync are seen at the vCPU's next event; changes by the host only in \
         keyframes, except for acts of the built-in VMM",
    ),
    optional(
        EVERY_STORE,
        &[
            &during(
                "kvm_mmu_track_write",
                "guest_write_begins",
                &["", "gpa", "new", "bytes"],
            ),
            &during(
                "kvm_mmu_pte_write",
                "guest_write_begins",
                &["", "gpa", "new", "bytes"],
            ),
        ],
        "the guest's emulated stores, to shadowed tables among them (kind writes)",
        "an emulated store is seen as a fault, without the stored value",
    )
    .without_functions(
        "stores to shadowed tables are seen by the emulator's walk; others are not seen",
    ),
    optional(
        "__kvm_sync_page",
        &[
            &[
                ret(ENDS, "mmu_sync_children"),
                entry("sync_begins", "mmu_sync_children", &[]),
                ret(ENDS, "__kvm_sync_page"),
                entry("sync_begins", "__kvm_sync_page", &[]),
            ],
            &[
                ret(ENDS, "mmu_sync_children"),
                entry("sync_begins", "mmu_sync_children", &[]),
                ret(ENDS, "paging64_sync_page"),
                entry("sync_begins", "paging64_sync_page", &[]),
                ret(ENDS, "paging32_sync_page"),
                entry("sync_begins", "paging32_sync_page", &[]),
            ],
        ],
        "changes made by a sync",
        NO_CAUSE,
    )
    .without_functions(BY_COPY),
    optional(
        "kvm_mmu_sync_roots",
        &[&during("kvm_mmu_sync_roots", "sync_roots_begins", &[])],
        "syncs of all that is below a vCPU's roots, with their time (kind acts)",
        "the parts of such a sync are acts of their own, without what is around them",
    ),
    optional(
        "__kvm_mmu_invalidate_addr",
        &[
            &during("__kvm_mmu_invalidate_addr", "invlpg_begins", &[]),
            &[
                ret(ENDS, "paging64_invlpg"),
                entry("invlpg_begins", "paging64_invlpg", &[]),
                ret(ENDS, "paging32_invlpg"),
                entry("invlpg_begins", "paging32_invlpg", &[]),
            ],
        ],
        "changes made by INVLPG and by injected faults",
        NO_CAUSE,
    )
    .without_functions(BY_COPY),
    optional(
        "__kvm_mmu_get_shadow_page",
        &[&during(
            "__kvm_mmu_get_shadow_page",
            "write_protect_begins",
            &[],
        )],
        "write access taken from a frame that becomes a table",
        NO_CAUSE,
    )
    .without_functions("such changes are seen in keyframes"),
    optional(
        "__kvm_mmu_prepare_zap_page",
        &[&during(
            "__kvm_mmu_prepare_zap_page",
            "zap_page_begins",
            &["kvm"],
        )],
        "the time that it takes to zap a shadow page (kind acts)",
        "a page that is zapped has no time",
    ),
    optional(
        "kvm_unmap_gfn_range",
        &[&during(
            "kvm_unmap_gfn_range",
            "unmap_begins",
            &["kvm", "range"],
        )],
        "memory that the host takes away or moves (kind host)",
        NO_CAUSE,
    )
    .without_functions(IN_KEYFRAMES),
    optional(
        "kvm_unmap_hva_range",
        &[&[tracepoint("kvm_unmap_hva_range", &["start", "end"])]],
        "the host's copy-on-write on a vCPU's thread, where functions cannot be hooked",
        "entries that it removes are seen in keyframes only",
    ),
    optional(
        "kvm_mmu_slot_remove_write_access",
        &[&during(
            "kvm_mmu_slot_remove_write_access",
            "dirty_start_begins",
            &["kvm", "memslot"],
        )],
        "start of dirty logging (kind host)",
        NO_CAUSE,
    )
    .without_functions(IN_KEYFRAMES),
    optional(
        "kvm_arch_mmu_enable_log_dirty_pt_masked",
        &[&during(
            "kvm_arch_mmu_enable_log_dirty_pt_masked",
            "dirty_clear_begins",
            &["kvm", "slot", "gfn_offset", "mask"],
        )],
        "passes over the dirty log (kind host)",
        NO_CAUSE,
    )
    .without_functions(IN_KEYFRAMES),
    optional(
        "kvm_zap_gfn_range",
        &[&during(
            "kvm_zap_gfn_range",
            "zap_range_begins",
            &["kvm", "gfn_start", "gfn_end"],
        )],
        "ranges of frames zapped (kind host)",
        NO_CAUSE,
    )
    .without_functions(IN_KEYFRAMES),
    optional(
        "kvm_arch_flush_shadow_memslot",
        &[&during(
            "kvm_arch_flush_shadow_memslot",
            "flush_slot_begins",
            &["kvm", "slot"],
        )],
        "memslots deleted or moved (kind host)",
        NO_CAUSE,
    )
    .without_functions(IN_KEYFRAMES),
    optional(
        "kvm_mmu_load",
        &[&[
            ret("root_changed", "kvm_mmu_load"),
            ret("root_changed", "kvm_mmu_new_pgd"),
        ]],
        "the moment when a vCPU changes its root",
        "a root is noticed at the first fault on it",
    ),
    required(
        "kvm_mmu_set_spte",
        &[&[tracepoint("kvm_mmu_set_spte", &["level", "gfn", "sptep"])]],
        "the leaf SPTE, its place and level; prefetched neighbours; end of a fault",
        "no shadow entry is seen",
    ),
    required(
        "kvm_mmu_spte_requested",
        &[&[tracepoint("kvm_mmu_spte_requested", &["fault"])]],
        "gfn, memslot, HVA and pfn; upper levels linked",
        "no shadow fault is seen",
    ),
    optional(
        "kvm_mmu_faultin_pfn",
        &[
            &[ret("pfn_known", "kvm_mmu_faultin_pfn")],
            &[ret("pfn_known", "kvm_faultin_pfn")],
        ],
        "HVA to HPA is known",
        "pfn_tables_ns is what the two would split",
    )
    .fills(&["pfn_ns", "tables_ns"]),
    optional(
        "hva_to_pfn",
        &[&[entry("hva_known", "hva_to_pfn", &[])]],
        "GPA to HVA is known, the host's tables come next",
        "the time for the memslot and for the host's tables cannot be separated",
    )
    .fills(&["hva_ns"]),
    optional(
        "x86_emulate_instruction",
        &[&[ret("emulated", "x86_emulate_instruction")]],
        "the instruction is emulated",
        "emulation counts as the way to re-entry",
    )
    .fills(&["emulate_ns"]),
    optional(
        "kvm_inj_exception",
        &[&[tracepoint(
            "kvm_inj_exception",
            &["vector", "", "error_code"],
        )]],
        "the guest's own faults injected",
        "a guest's own fault has no injection time and is recorded late",
    )
    .fills(&["inject_ns"]),
    required(
        "kvm_mmu_walker_error",
        &[&[tracepoint("kvm_mmu_walker_error", &["pferr"])]],
        "the guest's own tables refuse the access",
        "the guest's own faults look retried",
    ),
    required(
        "kvm_mmu_paging_element",
        &[&[tracepoint("kvm_mmu_paging_element", &["pte", "level"])]],
        "the guest entries walked, level by level; end of the walk",
        "no fault has its guest entries",
    ),
    optional(
        "kvm_userspace_exit",
        &[&[tracepoint("kvm_userspace_exit", &[])]],
        "KVM_RUN returns: closes what is under way",
        "a fault without a leaf SPTE may be recorded late",
    ),
    required(
        "kvm_mmu_pagetable_walk",
        &[&[tracepoint("kvm_mmu_pagetable_walk", &["addr", "pferr"])]],
        "begin of the walk: address and error code",
        "no fault is seen",
    ),
    optional(
        EVERY_FAULT,
        &[&[
            ret("fault_ends", "kvm_mmu_page_fault"),
            entry(
                "fault_begins",
                "kvm_mmu_page_fault",
                &["", "cr2_or_gpa", "error_code"],
            ),
        ]],
        "KVM is called for a fault, and done with it",
        "a fault begins with its walk, and one without a walk when its entry is asked for",
    ),
    optional(
        "kvm_entry",
        &[&[tracepoint("kvm_entry", &[])]],
        "the guest runs again: end of the round trip",
        "a fault ends with its last step in the MMU",
    )
    .fills(&["entry_ns"])
    .silent_on_pvm(),
    optional(
        "kvm_exit",
        &[&[tracepoint("kvm_exit", &[])]],
        "the guest left: begin of the round trip",
        "a fault begins when KVM's MMU is called for it",
    )
    .fills(&["exit_ns"])
    .silent_on_pvm(),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use std::path::Path;

    use super::{
        super::{KernelTypes, step::Hook},
        PLAN,
    };

    /// Which way each kernel's BTF allows, for every step that has a choice or lacks one
    /// somewhere.
    #[test]
    fn each_kernel_has_its_way() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/probes/btf/fixtures");
        let mut table = String::new();
        for kernel in ["6.1", "6.12", "6.18-pvm", "7.2", "7.3"] {
            let types = KernelTypes::from_folder(&fixtures.join(kernel)).expect("an extract");
            table += &format!("{kernel}\n");
            for step in PLAN {
                let fits = step.candidates.iter().position(|candidate| {
                    candidate
                        .iter()
                        .all(|attachment| attachment.fits(&types).is_ok())
                });
                let hook = |number: usize| step.candidates[number].last().map(|last| last.hook);
                match fits {
                    Some(0) if step.candidates.len() == 1 => {}
                    Some(number) => {
                        let hook = hook(number).expect("a hook");
                        table += &format!("  {:<28} {hook}\n", step.name);
                    }
                    None => {
                        let why = step.candidates[0]
                            .iter()
                            .find_map(|one| one.fits(&types).err());
                        table += &format!("  {:<28} {}\n", step.name, why.expect("a reason"));
                    }
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    /// What the extracts of kernels do not keep would look absent there.
    #[test]
    fn the_extracts_keep_every_place() {
        let wanted = include_str!("btf/fixtures/wanted");
        for attachment in PLAN.iter().flat_map(|step| step.candidates.concat()) {
            let line = match attachment.hook {
                Hook::Tracepoint(name) => format!("tracepoint {name}"),
                Hook::Entry(name) | Hook::Return(name) => format!("function {name}"),
            };
            assert!(wanted.lines().any(|wanted| wanted == line), "{line}");
        }
    }

    #[test]
    fn every_step_has_a_name_of_its_own_and_a_candidate() {
        let names: BTreeSet<_> = PLAN.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), PLAN.len());
        for step in PLAN {
            assert!(!step.candidates.is_empty(), "{}", step.name);
            assert!(step.candidates.iter().all(|all| !all.is_empty()));
        }
    }
}
