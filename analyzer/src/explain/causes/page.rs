//! Why a shadow page never was unsync, and why a vCPU uses another root.

use trace::RootRow;

use crate::{
    explain::facts::{Because, PageFacts},
    replay::CurrentRoot,
};

/// Why a page never was unsync.
pub fn never_unsync(of: &PageFacts) -> Option<Because> {
    let (kind, text) = match (of.direct, of.level.0) {
        _ if of.unsync_total > 0 => return None,
        (true, _) => ("direct", "never: a direct page shadows no guest table"),
        (false, 1) => (
            "no_store",
            "never: no store went to its table through a mapping of the guest's",
        ),
        (false, _) => (
            "upper_level",
            "never: only tables of level 1 may be; KVM emulates stores to this one",
        ),
    };
    Some(Because::new(kind, text))
}

/// Why a vCPU uses another root; `before` is the one that it used.
pub fn new_root(row: &RootRow, before: Option<&CurrentRoot>) -> Because {
    match before {
        None => Because::new("first", "it is the first root seen of this vCPU"),
        Some(CurrentRoot { cr3, root, .. }) if *cr3 == row.cr3 => {
            let text = format!("before: the same cr3 on shadow root {root}");
            let why = "KVM dropped that root, or the role changed";
            Because::new("same_cr3", format!("{text}: {why}"))
        }
        Some(CurrentRoot { cr3, root, .. }) => {
            let text = format!("before: cr3 {cr3}, shadow root {root}");
            let why = "the guest loaded CR3 (kvm_mmu_new_pgd)";
            Because::new("cr3_loaded", format!("{text}: {why}"))
        }
    }
}
