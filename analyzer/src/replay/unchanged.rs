//! Records of entries that had not changed.

use trace::EntryRow;

use super::VmReplay;

/// Whether an entry had the value of its record before that record: it was read again, or stored as
/// it was. `replay` is the state before; what neither knows counts as a change.
pub fn is_unchanged(row: &EntryRow, replay: Option<&VmReplay>) -> bool {
    let known = || replay.and_then(|vm| vm.tables().entry(row.sptep));
    let before = row.old.or_else(known);
    before.is_some_and(|before| before == row.spte || before.is_empty() && row.spte.is_empty())
}

#[cfg(test)]
mod tests {
    use events::{Cause, Hpa, Level, Seq, Spte, TimeNs, VmId};

    use super::*;

    #[test]
    fn both_values_of_an_empty_entry_are_the_same() {
        const EMPTY_SINCE_6_10: u64 = 1 << 63;
        let row = |old, spte| EntryRow {
            seq: Seq(0),
            time_ns: TimeNs(0),
            vm: VmId(0),
            vcpu: None,
            cause: Cause::Reread,
            sptep: Hpa(0x1000),
            spte: Spte(spte),
            old: Some(Spte(old)),
            level: Level(1),
            gfn: None,
        };
        for (old, new, unchanged) in [
            (0, EMPTY_SINCE_6_10, true),
            (EMPTY_SINCE_6_10, 0, true),
            (0x5e67, 0x5e67, true),
            (0x5e67, EMPTY_SINCE_6_10, false),
            (0, 0x5e67, false),
        ] {
            assert_eq!(
                is_unchanged(&row(old, new), None),
                unchanged,
                "{old:#x} {new:#x}"
            );
        }
    }
}
