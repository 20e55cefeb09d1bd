//! Guest tables that are protected, stored to and synced in turn.

use std::cmp::Reverse;

use events::Gfn;

use super::{Culprit, Finding, Pathology};
use crate::{
    faults::Paid,
    top::{PingPong, Top},
};

/// Times that a table becomes unsync, see [`Pathology::threshold`].
pub(super) const CYCLES: u64 = 4;

/// What the sums by guest table show of it.
pub(super) fn finding(tables: &Top) -> Option<Finding> {
    let found = tables.guest_tables();
    let found: Vec<(Gfn, &PingPong)> = found
        .filter(|(_, of, _)| of.unsync >= CYCLES)
        .map(|(gfn, of, _)| (gfn, of))
        .collect();
    let (gfn, worst) = found
        .iter()
        .max_by_key(|(gfn, of)| (of.rounds().own_ns(), Reverse(*gfn)))?;
    let shown = worst.worst.or(worst.last)?;
    let tables = found.len() as u64;
    let mut paid = Paid::default();
    found.iter().for_each(|(_, of)| paid.add_all(of.rounds()));
    let found = Finding {
        size: found.iter().map(|(_, of)| of.again).sum(),
        culprit: Culprit {
            cr3: Some(shown.cr3),
            rip: shown.rip,
            gva: Some(shown.gva),
            gfn: Some(*gfn),
            ..Culprit::default()
        },
        ..Finding::new(Pathology::PingPong, tables, shown.seq)
    };
    Some(found.paid(paid))
}
