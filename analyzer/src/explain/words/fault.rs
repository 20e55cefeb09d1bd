//! What each class of fault is, and why a fault is of its class.

use events::Class;

use super::{frames, kernel, thread, writer};
use crate::{
    explain::facts::{FaultCause, FaultFacts, GuestRefusal, MissingRight, WriteProtection},
    text::{
        flags,
        units::{count, ns, plural},
    },
};

/// What a class means, in one clause.
pub fn meaning(class: Class) -> &'static str {
    match class {
        Class::Guest => "the guest's own tables refuse the access; the guest gets its #PF",
        Class::Shadow => {
            "the guest's tables allow it; only the shadow entry was missing or too weak"
        }
        Class::WriteProtected => {
            "a store to a guest table that KVM shadows; KVM emulates the instruction"
        }
        Class::Unsync => "a store to a guest leaf table; KVM makes it unsync and syncs it later",
        Class::Mmio => "no memslot covers the address; KVM emulates the instruction",
        Class::Fast => "only a write bit was missing; KVM set it without mmu_lock",
        Class::Spurious => "the entry already allowed the access",
        Class::Retried => "something changed meanwhile; the guest repeats the access",
    }
}

/// Why no leaf was written.
pub fn unwritten(class: Class) -> &'static str {
    match class {
        Class::Guest => "none: the guest must first repair its own tables",
        Class::WriteProtected => {
            "none: the store is emulated, and what it makes stale is only dropped"
        }
        Class::Mmio => "none for memory: the instruction is emulated",
        Class::Spurious => "none: it was there",
        Class::Retried => "none: given up",
        _ => "not recorded for this fault",
    }
}

/// Why the guest's tables give no GPA.
pub fn guest_refusal(of: GuestRefusal) -> String {
    match of {
        GuestRefusal::NotRecorded => "refused by the guest's tables".to_owned(),
        GuestRefusal::NotPresent(level) => format!("not present at level {level}"),
        GuestRefusal::NotWritable(level) => format!("not writable at level {level}"),
        GuestRefusal::NotUser(level) => format!("not for user mode at level {level}"),
        GuestRefusal::Rights => "the rights of the path refuse the access".to_owned(),
    }
}

/// Why a fault is of its class.
pub fn fault_cause(of: &FaultFacts) -> String {
    match &of.cause {
        FaultCause::InjectedFault { syncs_address } => {
            let first = match syncs_address {
                true => {
                    "; since P is set, KVM synced the address first, as hardware drops it from the TLB"
                }
                false => "",
            };
            format!(
                "the walk of the guest's tables (FNAME(walk_addr_generic)) failed, so KVM injected a \
                 #PF and changed no shadow entry{first}"
            )
        }
        FaultCause::BecameUnsync => "the leaf that KVM was about to make writable maps a guest \
             table of level 1, which is shadowed at level 1 only: mmu_try_to_unsync_pages makes its \
             shadow page unsync instead of emulating each store. From here on the guest stores to \
             that table without an exit."
            .to_owned(),
        FaultCause::MmioMarker => "the access hit a marker with reserved bits (RSVD): \
             handle_mmio_page_fault recognizes it by the marker alone, and KVM emulates the \
             instruction without a walk or a lookup"
            .to_owned(),
        FaultCause::NoMemslot => "no memslot covers the frame (KVM_PFN_NOSLOT): KVM emulates the \
             instruction, and where mmio_caching is on it leaves a marker (mark_mmio_spte) for the \
             next access"
            .to_owned(),
        FaultCause::WriteRestored | FaultCause::AlreadyAllowed => allowed(of),
        FaultCause::WriteProtected { protection } => protected(*protection),
        FaultCause::HostChanged | FaultCause::FrameTaken | FaultCause::GivenUp => retried(of),
        _ => shadow(of),
    }
}

fn shadow(of: &FaultFacts) -> String {
    match (&of.cause, &of.emptied) {
        (FaultCause::EntryFoundEmpty, Some(row)) => format!(
            "the shadow entry was missing: it was gone when the probes read it again (seq {}), as \
             after a fault that KVM gave up, or after an act of the host",
            count(row.seq.0)
        ),
        (FaultCause::EntryEmptied, Some(row)) => format!(
            "the shadow entry was missing: {} had emptied it ({})",
            row.cause.name(),
            kernel::why(row.cause).clause
        ),
        (FaultCause::TablesMissing { created }, _) => format!(
            "the shadow entry was missing, and so was the path to it: KVM made {}",
            plural(u64::from(*created), "table")
        ),
        (FaultCause::TooWeak { missing_right }, _) => {
            let by = of.stored_before.as_ref();
            let by = by.map_or_else(String::new, |by| format!(", stored by {}", writer(by)));
            format!(
                "the entry was there but too weak ({}{by}); it is now {}{}",
                flags::spte(of.before.unwrap_or_default()),
                flags::spte(of.row.spte.unwrap_or_default()),
                missing_right.map_or("", lacked),
            )
        }
        _ => "the shadow entry was missing: nothing had mapped it in this table".to_owned(),
    }
}

fn lacked(of: MissingRight) -> &'static str {
    match of {
        MissingRight::WriteForDirtyLog => {
            ": dirty logging had removed W, and this store marks the page dirty in the log"
        }
        MissingRight::WriteAfterLoads => ": KVM had left W out, since only loads had come",
        MissingRight::WriteNotDirtyOrTable => {
            ": KVM had left W out, since the guest's entry was not dirty, or the frame was a table"
        }
        MissingRight::Execute => ": the guest may now execute",
    }
}

fn protected(of: WriteProtection) -> String {
    match of {
        WriteProtection::LeafReadOnly => "the leaf had to stay read-only, since a shadow page of \
             the frame forbids writes: KVM emulated the store (RET_PF_EMULATE, from 6.12 \
             RET_PF_WRITE_PROTECTED)"
            .to_owned(),
        WriteProtection::UpperTable { spt, level } => format!(
            "the frame is a guest table that level {level} table {spt} shadows, so it is \
             write-tracked (page_fault_handle_page_track): only tables of level 1 may become unsync. \
             KVM emulated the store"
        ),
        WriteProtection::LeafTable => {
            "the frame is a guest table of level 1, and KVM did not make \
             it unsync (mmu_try_to_unsync_pages): KVM emulated the store"
                .to_owned()
        }
        WriteProtection::NoShadowKnown => "KVM emulated the store; at the time of the record no \
             shadow page of the frame is known"
            .to_owned(),
    }
}

fn allowed(of: &FaultFacts) -> String {
    let age = |time: u64| ns(of.row.time_ns.0.saturating_sub(time));
    match (&of.cause, &of.stored_before) {
        (FaultCause::WriteRestored, by) => {
            let by = by.as_ref();
            let by = by.map_or_else(String::new, |by| {
                format!("; the entry was stored by {}", writer(by))
            });
            format!(
                "fast_page_fault found a leaf of a direct table that only lacked W, by dirty logging \
                 or access tracking, and set it with one cmpxchg, without mmu_lock{by}"
            )
        }
        (_, by) => {
            let by = by.as_ref().map_or_else(String::new, |by| {
                let age = age(by.time_ns.0);
                format!("; it was last stored {age} before, by {}", writer(by))
            });
            format!(
                "RET_PF_SPURIOUS: when KVM held mmu_lock the entry allowed this access, so the same \
                 value would have been stored. The CPU had used an older one from its TLB, or another \
                 access made it, or an upper table had been zapped and this fault linked a leaf table \
                 that had survived with its leaf{by}"
            )
        }
    }
}

fn retried(of: &FaultFacts) -> String {
    let given_up =
        "RET_PF_RETRY: KVM gave the fault up without a store, and the guest repeats the access";
    match (&of.host, &of.read_again, &of.cause) {
        (Some(act), _, FaultCause::HostChanged) => format!(
            "{given_up}; meanwhile {} ({}, on {}, seq {}), so the frame that KVM looked up may not be \
             its frame any more (mmu_invalidate_retry)",
            kernel::act(act.event),
            frames(act),
            thread(act.vcpu),
            count(act.seq.0)
        ),
        (_, Some(row), FaultCause::FrameTaken) => format!(
            "{given_up}. Read again afterwards (seq {}), its entry is empty: meanwhile the host \
             unmapped the frame, as the lookup itself does where it copies the host's page on write \
             (mmu_invalidate_retry)",
            count(row.seq.0)
        ),
        _ => format!(
            "{given_up}. Either an mmu-notifier ran while KVM looked the frame up \
             (mmu_invalidate_seq), or the guest changed its entry, or the root was dropped, or the \
             frame is still being read in"
        ),
    }
}
