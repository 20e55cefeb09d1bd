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
