//! What changed between two moments.

use std::collections::BTreeMap;

use events::{Gfn, Gva, Hpa, Level, Spte};

use super::{Snapshot, addresses::Addresses};

/// A changed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryChange {
    /// The entry's place.
    pub place: Hpa,
    /// Level of its table.
    pub level: Level,
    /// The root that reaches it, and the first address that it translates. Of several ways to its
    /// table, the first; `None` for a table that no root reaches.
    pub way: Option<(Hpa, Gva)>,
    /// The guest frame that a leaf maps, or that holds the guest's table that a link is for; `None`
    /// where it is not known.
    pub gfn: Option<Gfn>,
    /// Its value at the first moment.
    pub before: Spte,
    /// Its value at the second.
    pub after: Spte,
}

impl EntryChange {
    /// `added`, `removed`, `moved` or `rights`.
    pub fn kind(&self) -> &'static str {
        match (
            self.before.is_shadow_present(),
            self.after.is_shadow_present(),
        ) {
            (false, true) => "added",
            (true, false) => "removed",
            _ if self.before.pfn() != self.after.pfn() => "moved",
            _ => "rights",
        }
    }

    /// The first address that it translates.
    pub fn gva(&self) -> Option<Gva> {
        self.way.map(|(_, gva)| gva)
    }

    /// The value that is present: at the second moment, or else at the first.
    pub fn present(&self) -> Spte {
        match self.after.is_shadow_present() {
            true => self.after,
            false => self.before,
        }
    }

    /// Its place in a list: by address; what no root reaches comes last.
    pub(super) fn order(&self) -> (bool, Option<Gva>, std::cmp::Reverse<Level>, Hpa) {
        let gva = self.gva();
        let level = std::cmp::Reverse(self.level);
        (gva.is_none(), gva, level, self.place)
    }
}

/// Every entry that differs, by address.
pub fn changes(before: &Snapshot, after: &Snapshot) -> Vec<EntryChange> {
    let (was, is) = (present(before), present(after));
    let ways = [after, before].map(|snapshot| Addresses::of(&snapshot.vm));
    let change = |place: Hpa, level: Level, old: Spte, new: Spte| {
        let now = new.is_shadow_present();
        let (snapshot, spte) = if now { (after, new) } else { (before, old) };
        let [ways_after, ways_before] = &ways;
        let way = match now {
            true => ways_after.get(place, level),
            false => ways_before.get(place, level),
        };
        EntryChange {
            place,
            level,
            way,
            gfn: gfn(snapshot, place, spte),
            before: old,
            after: new,
        }
    };
    let mut changes = Vec::new();
    for (place, (level, old)) in &was {
        let new = is.get(place).map(|(_, new)| *new).unwrap_or_default();
        if new != *old {
            changes.push(change(*place, *level, *old, new));
        }
    }
    for (place, (level, new)) in &is {
        if !was.contains_key(place) {
            changes.push(change(*place, *level, Spte(0), *new));
        }
    }
    changes.sort_by_key(EntryChange::order);
    changes
}

/// Every present entry, with the level of its table.
fn present(snapshot: &Snapshot) -> BTreeMap<Hpa, (Level, Spte)> {
    let mut present = BTreeMap::new();
    for page in snapshot.vm.tables().pages() {
        let entries = page.entries().filter(|(_, spte)| spte.is_shadow_present());
        present.extend(entries.map(|(index, spte)| (page.place(index), (page.info.level, spte))));
    }
    present
}

/// See [`EntryChange::gfn`].
fn gfn(snapshot: &Snapshot, place: Hpa, spte: Spte) -> Option<Gfn> {
    let tables = snapshot.vm.tables();
    let page = tables.page(place.table())?;
    match spte.is_leaf(page.info.level) {
        true => page.leaf_gfn(place.index()),
        false => Some(tables.child(page, spte)?.info.gfn),
    }
}
