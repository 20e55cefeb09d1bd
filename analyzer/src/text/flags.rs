//! Bits of page-table entries as letters.

use events::{ErrorCode, Gpte, Spte};

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

/// Rights of an entry of a walk; a PDPTE has none, and no bit 11.
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
pub const LEGEND: &str = "r present, w writable, x executable, u user, A accessed, D dirty, \
                          H host-writable, M MMU-writable";

fn letters(bits: &[(bool, char)]) -> String {
    bits.iter()
        .map(|(set, letter)| if *set { *letter } else { '-' })
        .collect()
}

/// A page fault's error code with the names of its bits.
pub fn error_code(code: ErrorCode) -> String {
    let names: Vec<&str> = code.names().collect();
    if names.is_empty() {
        return format!("{code} (read, not present)");
    }
    format!("{code} ({})", names.join(", "))
}
