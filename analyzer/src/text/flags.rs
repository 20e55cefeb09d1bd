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

/// The same as values to add up, from the lowest on: `r 1, w 2, u 4, A 0x20; x: top bit 0`.
pub fn gpte_values(entry: Gpte) -> String {
    let low = (0..12).map(|bit| Gpte(entry.0 & 1 << bit));
    let values = low.filter(|bit| bit.0 != 0).map(|bit| {
        let letters = [
            (bit.is_present(), "r "),
            (bit.is_writable(), "w "),
            (bit.is_user(), "u "),
            (bit.is_accessed(), "A "),
            (bit.is_dirty(), "D "),
        ];
        let letter = letters.iter().find(|(is, _)| *is);
        let letter = letter.map_or("", |(_, letter)| letter);
        match bit.0 {
            digit @ ..10 => format!("{letter}{digit}"),
            more => format!("{letter}{more:#x}"),
        }
    });
    let values = values.collect::<Vec<_>>().join(", ");
    match entry.is_no_execute() {
        true => format!("{values}; no x: top bit 1"),
        false => format!("{values}; x: top bit 0"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_a_guest_entry_add_up_to_its_last_digits() {
        for (value, expected) in [
            (0x40_0007, "r 1, w 2, u 4; x: top bit 0"),
            (0x40_0067, "r 1, w 2, u 4, A 0x20, D 0x40; x: top bit 0"),
            // Global and page size have no letter.
            (1 << 63 | 0x40_0181, "r 1, 0x80, 0x100; no x: top bit 1"),
        ] {
            assert_eq!(gpte_values(Gpte(value)), expected);
        }
    }
}
