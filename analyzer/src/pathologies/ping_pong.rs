//! Guest tables that are protected, stored to and synced in turn.

use std::cmp::Reverse;

use events::Gfn;

use super::{Culprit, Finding, Pathology};
use crate::{
    faults::total,
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
        .max_by_key(|(gfn, of)| (of.rounds_ns, Reverse(*gfn)))?;
    let last = worst.last?;
    Some(Finding {
        size: found.iter().map(|(_, of)| of.again).sum(),
        cost_ns: Some(total(found.iter().map(|(_, of)| of.rounds_ns))),
        culprit: Culprit {
            cr3: Some(last.cr3),
            rip: last.rip,
            gva: Some(last.gva),
            gfn: Some(*gfn),
            ..Culprit::default()
        },
        ..Finding::new(Pathology::PingPong, found.len() as u64, last.seq)
    })
}
