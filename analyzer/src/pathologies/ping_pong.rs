//! Guest tables that are protected, stored to and synced in turn.

use std::cmp::Reverse;

use events::Gfn;

use super::{Culprit, Finding, Pathology};
use crate::top::{PingPong, Top};

/// Times that a table becomes unsync, see [`Pathology::threshold`].
pub(super) const CYCLES: u64 = 4;

/// What the sums by guest table show of it.
pub(super) fn finding(tables: &Top) -> Option<Finding> {
    let found = tables
        .guest_tables()
        .filter(|(_, of, _)| of.unsync >= CYCLES);
    let found = found.map(|(gfn, of, sum)| (gfn, of, sum.map_or(0, |sum| sum.total_ns)));
    let found: Vec<(Gfn, &PingPong, u64)> = found.collect();
    let (gfn, worst, _) = found
        .iter()
        .max_by_key(|(gfn, _, total_ns)| (*total_ns, Reverse(*gfn)))?;
    let last = worst.last?;
    Some(Finding {
        size: found.iter().map(|(_, of, _)| of.again).sum(),
        cost_ns: Some(found.iter().map(|(.., total_ns)| total_ns).sum()),
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
