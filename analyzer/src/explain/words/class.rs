//! What each class of fault is.

use events::Class;

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
        Class::Failed => "KVM cannot serve it: KVM_RUN returned an error to the VMM",
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
        Class::Failed => "none: KVM_RUN returned an error",
        _ => "not recorded for this fault",
    }
}
