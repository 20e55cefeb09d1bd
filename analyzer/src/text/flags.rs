//! Bits of page-table entries as letters.

use events::{Gpte, Spte};

use crate::replay::Step;

/// Rights of a guest entry: `rwxuAD`, `-` where a bit is off, `absent` without P.
pub fn gpte(entry: Gpte) -> String {
    if !entry.is_present() {
        return "absent".to_owned();
    }
    letters(&[
        (true, 'r'),
        (entry.is_writable(), 'w'),
        (!entry.is_no_execute(), 'x'),
        (entry.is_user(), 'u'),
        (entry.is_accessed(), 'A'),
        (entry.is_dirty(), 'D'),
    ])
}

/// Rights of a shadow entry: `rwxuAD`, then `H` if the host may write and `M` if only dirty
/// logging may forbid writing (bits 9 and 10, arch/x86/kvm/mmu/spte.h).
pub fn spte(entry: Spte) -> String {
    if !entry.is_shadow_present() {
        return if entry.is_empty() { "empty" } else { "no SPTE" }.to_owned();
    }
    letters(&[
        (true, 'r'),
        (entry.is_writable(), 'w'),
        (entry.is_executable(), 'x'),
        (entry.is_user(), 'u'),
        (entry.is_accessed(), 'A'),
        (entry.is_dirty(), 'D'),
        (entry.is_host_writable(), 'H'),
        (entry.is_mmu_writable(), 'M'),
    ])
}

/// Rights of an entry on the way of a walk; a PDPTE has none, and no bit 11 either.
pub fn step(step: &Step) -> String {
    if step.is_pdpte {
        return "PDPTE".to_owned();
    }
    spte(step.spte)
}

/// Only the rights of a shadow leaf: `rwxu`.
pub fn rights(entry: Spte) -> String {
    letters(&[
        (true, 'r'),
        (entry.is_writable(), 'w'),
        (entry.is_executable(), 'x'),
        (entry.is_user(), 'u'),
    ])
}

/// What the letters mean, for a legend.
pub const LEGEND: &str = "r present, w writable, x executable, u user, A accessed, D dirty, H host-writable, M MMU-writable";

fn letters(bits: &[(bool, char)]) -> String {
    bits.iter()
        .map(|(set, letter)| if *set { *letter } else { '-' })
        .collect()
}

/// The bits of a page fault's error code (`PFERR_*`, arch/x86/include/asm/kvm_host.h).
pub fn error_code(code: u32) -> String {
    let bits = [
        (1, "present"),
        (1 << 1, "write"),
        (1 << 2, "user"),
        (1 << 3, "rsvd"),
        (1 << 4, "fetch"),
        (1 << 5, "pk"),
        (1 << 6, "ss"),
        (1 << 15, "sgx"),
    ];
    let names: Vec<&str> = bits
        .iter()
        .filter(|(bit, _)| code & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        return format!("{code:#x} (read, not present)");
    }
    format!("{code:#x} ({})", names.join(", "))
}
