//! What the addresses and tables of a recording are called, by whose tables KVM shadows.

use trace::Mode;

/// Names.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// The address that is walked.
    pub address: &'static str,
    /// The root of the guest's tables.
    pub guest_root: &'static str,
    /// Title of the first step.
    pub guest_tables: &'static str,
    /// Title of the shadow table.
    pub shadow_tables: &'static str,
    /// What comes of an access that the guest's tables refuse.
    pub refused: &'static str,
    /// Why that is so, in the kernel's words.
    pub injected: &'static str,
}

const SHADOW: Names = Names {
    address: "gva",
    guest_root: "cr3",
    guest_tables: "The guest's tables: GVA -> GPA",
    shadow_tables: "KVM's shadow table: GVA -> HPA",
    refused: "no GPA: the guest gets its #PF",
    injected: "the walk of the guest's tables (FNAME(walk_addr_generic)) failed, so KVM injected a \
               #PF and changed no shadow entry",
};

const NESTED_NPT: Names = Names {
    address: "ngpa",
    guest_root: "ncr3",
    guest_tables: "L1's NPT: nGPA -> GPA",
    shadow_tables: "KVM's shadow table: nGPA -> HPA",
    refused: "no GPA: L1 gets the exit #NPF of L2",
    injected: "the walk of L1's NPT (FNAME(walk_addr_generic)) failed, so KVM handed L1 the exit \
               #NPF of L2 (nested_svm_inject_npf_exit) and changed no shadow entry",
};

const NESTED_EPT: Names = Names {
    guest_root: "eptp",
    guest_tables: "L1's EPT: nGPA -> GPA",
    refused: "no GPA: L1 gets the EPT violation of L2",
    injected: "the walk of L1's EPT (FNAME(walk_addr_generic)) failed, so KVM handed L1 the EPT \
               violation of L2 (nested_ept_inject_page_fault) and changed no shadow entry",
    ..NESTED_NPT
};

/// The names of a mode.
pub fn of_mode(mode: Mode) -> &'static Names {
    match mode {
        Mode::Shadow => &SHADOW,
        Mode::NestedNpt => &NESTED_NPT,
        Mode::NestedEpt => &NESTED_EPT,
    }
}
