//! What changed between two values of an entry, in words.

use events::{Gpte, Level, Spte};

use crate::text::{flags, units::page_size};

/// What an entry of a table at `level` does: `maps frame 0x.. (4K, rwxuADHM)`.
pub fn meaning(spte: Spte, level: Level) -> String {
    if spte.is_empty() {
        return "empty".to_owned();
    }
    if !spte.is_shadow_present() {
        return "no SPTE: a marker for MMIO, or a host entry".to_owned();
    }
    let rights = flags::spte(spte);
    match spte.is_leaf(level) {
        true => format!(
            "maps frame {} ({}, {rights})",
            spte.pfn(),
            page_size(level.pages())
        ),
        false => format!("points to table {} ({rights})", spte.child()),
    }
}

/// The differences between two values of an entry, one clause each.
pub fn changed(old: Spte, new: Spte, level: Level) -> Vec<String> {
    let mut words = Vec::new();
    match (old.is_shadow_present(), new.is_shadow_present()) {
        (false, false) if old == new => words.push("nothing changed".to_owned()),
        (false, false) => words.push(match new.is_empty() {
            true => format!(
                "it was {}; it is empty now, and no mapping before or after",
                absent(old)
            ),
            false => format!(
                "it was {}; it is a marker for MMIO now, which is no mapping",
                absent(old)
            ),
        }),
        (false, true) => words.push(format!(
            "it was {}; it {}",
            absent(old),
            meaning(new, level)
        )),
        (true, false) => {
            let after = match new.is_empty() {
                true => "now nothing: the next access faults",
                false => "now a marker: the next access is MMIO",
            };
            words.push(format!("it {}; {after}", past(&meaning(old, level))));
        }
        (true, true) => both_present(&mut words, old, new, level),
    }
    words
}

fn absent(old: Spte) -> &'static str {
    match old.is_empty() {
        true => "empty",
        false => "a marker",
    }
}

fn past(words: &str) -> String {
    match words.split_once(' ') {
        Some(("maps", rest)) => format!("mapped {rest}"),
        Some(("points", rest)) => format!("pointed {rest}"),
        _ => words.to_owned(),
    }
}

/// A bit of an entry, and what its setting and its clearing mean.
type Bit = (fn(Spte) -> bool, &'static str, &'static str);

const BITS: [Bit; 7] = [
    (
        Spte::is_writable,
        "W set: the guest may write",
        "W cleared: the guest's next store faults",
    ),
    (
        Spte::is_mmu_writable,
        "M set: the frame is no longer a shadowed table",
        "M cleared: KVM itself forbids writes, since the frame is a guest table",
    ),
    (
        Spte::is_host_writable,
        "H set: the host may write the frame",
        "H cleared: the host's mapping is read-only",
    ),
    (
        Spte::is_executable,
        "NX cleared: the guest may execute",
        "NX set: the guest may not execute",
    ),
    (
        Spte::is_user,
        "U set: CPL 3 may use it",
        "U cleared: CPL 3 may not use it",
    ),
    (Spte::is_accessed, "A set", "A cleared"),
    (Spte::is_dirty, "D set", "D cleared"),
];

fn both_present(words: &mut Vec<String>, old: Spte, new: Spte, level: Level) {
    if old == new {
        words.push("nothing changed".to_owned());
        return;
    }
    if old.is_leaf(level) != new.is_leaf(level) {
        words.push(format!(
            "it {}, and now {}",
            past(&meaning(old, level)),
            meaning(new, level)
        ));
        return;
    }
    if old.pfn() != new.pfn() {
        let what = match new.is_leaf(level) {
            true => "frame",
            false => "table",
        };
        words.push(format!(
            "another {what}: {} -> {}",
            old.pfn().hpa(),
            new.pfn().hpa()
        ));
    }
    for (bit, set, cleared) in BITS {
        match (bit(old), bit(new)) {
            (false, true) => words.push(set.to_owned()),
            (true, false) => words.push(cleared.to_owned()),
            _ => {}
        }
    }
    if words.is_empty() {
        words.push(format!("bits {:#x} changed", old.0 ^ new.0));
    }
}

/// A guest entry: `0x.. rwxuAD -> gpa 0x..`.
pub fn guest(gpte: Gpte) -> String {
    match gpte.is_present() {
        true => format!("{:#x} ({}, gpa {})", gpte.0, flags::gpte(gpte), gpte.gpa()),
        false => format!("{:#x} (absent)", gpte.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: Spte = Spte(0x101000e67);

    fn words(old: u64, new: u64) -> Vec<String> {
        changed(Spte(old), Spte(new), Level(1))
    }

    #[test]
    fn each_bit_that_changed_is_named() {
        let protected = LEAF.0 & !(1 << 1 | 1 << 10);
        assert_eq!(
            words(LEAF.0, protected),
            [
                "W cleared: the guest's next store faults",
                "M cleared: KVM itself forbids writes, since the frame is a guest table"
            ]
        );
        assert_eq!(words(LEAF.0, LEAF.0 & !(1 << 6)), ["D cleared"]);
        assert_eq!(
            words(LEAF.0, LEAF.0 ^ 1 << 52),
            ["bits 0x10000000000000 changed"]
        );
        assert_eq!(words(LEAF.0, LEAF.0), ["nothing changed"]);
    }

    #[test]
    fn mapping_and_unmapping_name_the_frame() {
        assert_eq!(
            words(LEAF.0, 1 << 63),
            ["it mapped frame 0x101000 (4K, rwxuADHM); now nothing: the next access faults"]
        );
        assert_eq!(
            words(0, LEAF.0),
            ["it was empty; it maps frame 0x101000 (4K, rwxuADHM)"]
        );
        assert_eq!(
            words(LEAF.0, LEAF.0 + 0x1000),
            ["another frame: 0x101000000 -> 0x101001000"]
        );
    }

    #[test]
    fn a_table_that_replaces_a_large_page_is_named() {
        let link = Spte(0x800001827);
        let large = Spte(0x1002000ee7);
        let words = changed(large, link, Level(2));
        assert!(
            words[0].contains("2M") && words[0].contains("points to table 0x800001000"),
            "{words:?}"
        );
    }
}
