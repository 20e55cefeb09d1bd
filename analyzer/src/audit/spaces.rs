//! Two address spaces: the guest's ordinary one and that of system management mode (SMM).
//!
//! A frame may be other memory in each. The role of a shadow page says whose it is.

use events::{Hpa, Pfn};

use super::{leaves::MOST_TRIED, roles::Roles};
use crate::replay::{ShadowPage, ShadowTables};

/// Whether a leaf maps the memory that a table is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// It does.
    Same,
    /// It does not: other memory in the other address space.
    Other,
    /// Nothing shows it.
    Unknown,
}

/// Whether the leaf at `place` of `page` maps the memory of the guest's table that `table` shadows;
/// their frame is the same.
pub(super) fn may_write(
    roles: Roles,
    page: &ShadowPage,
    place: Hpa,
    table: &ShadowPage,
    tables: &ShadowTables,
) -> Space {
    let (Some(one), Some(other)) = (roles.smm.of(page.info.role), roles.smm.of(table.info.role))
    else {
        return Space::Unknown;
    };
    if one == other {
        return Space::Same;
    }
    // A leaf of the table's own address space shows where its memory is.
    let leaves = tables.leaves_of_any_level(table.info.gfn).take(MOST_TRIED);
    let mut own = leaves.filter_map(|place| {
        let page = tables.page(place.table())?;
        let is_own = roles.smm.of(page.info.role) == Some(other);
        is_own.then(|| frame(page, place, table))?
    });
    match (own.next(), frame(page, place, table)) {
        (Some(own), Some(mapped)) if own == mapped => Space::Same,
        (Some(_), Some(_)) => Space::Other,
        _ => Space::Unknown,
    }
}

/// The host frame in which the leaf at `place` has the guest's table.
fn frame(page: &ShadowPage, place: Hpa, table: &ShadowPage) -> Option<Pfn> {
    let index = place.index();
    let within = table.info.gfn.0.checked_sub(page.leaf_gfn(index)?.0)?;
    Some(Pfn(page.entry(index).pfn().0.wrapping_add(within)))
}
