//! What changed between two moments.

use std::collections::BTreeMap;

use events::{Gfn, Gva, Hpa, Level, Spte};

use super::{Between, Snapshot, addresses::Addresses};

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
    fn order(&self) -> (bool, Option<Gva>, std::cmp::Reverse<Level>, Hpa) {
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

/// Entries next to each other with the same change.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeRun {
    /// The first of them.
    pub first: EntryChange,
    /// How many.
    pub entries: u64,
    /// Why they changed.
    pub cause: &'static str,
    /// The guest frames adjoin as the addresses do.
    pub gfns_adjoin: bool,
    /// The host frames do.
    pub pfns_adjoin: bool,
    last: EntryChange,
}

impl ChangeRun {
    fn new(change: EntryChange, cause: &'static str) -> Self {
        Self {
            first: change,
            entries: 1,
            cause,
            gfns_adjoin: true,
            pfns_adjoin: true,
            last: change,
        }
    }

    /// Takes the change in, if it is the same one of the next entry.
    fn join(&mut self, next: &EntryChange, cause: &'static str) -> bool {
        let last = self.last;
        let pages = last.level.pages();
        let follows = match (last.way, next.way) {
            (Some((root, gva)), Some((other, next))) => {
                root == other && next.0 == gva.0.wrapping_add(pages << 12)
            }
            (None, None) => next.place.0 == last.place.0.wrapping_add(8),
            _ => false,
        };
        let rights = |change: &EntryChange| [rights(change.before), rights(change.after)];
        let is_leaf = |change: &EntryChange| change.present().is_leaf(change.level);
        let same = last.level == next.level
            && self.cause == cause
            && last.kind() == next.kind()
            && is_leaf(&last) == is_leaf(next)
            && rights(&last) == rights(next);
        if !follows || !same {
            return false;
        }
        let gfn = last.gfn.map(|gfn| gfn.0.wrapping_add(pages));
        self.gfns_adjoin &= next.gfn.map(|gfn| gfn.0) == gfn;
        let pfn = last.present().pfn().0.wrapping_add(pages);
        self.pfns_adjoin &= next.present().pfn().0 == pfn;
        self.entries += 1;
        self.last = *next;
        true
    }
}

/// All of an entry but its frame.
fn rights(spte: Spte) -> Spte {
    Spte(spte.0 & !spte.child().0)
}

/// The changes with adjoining ones folded, by address.
pub(super) fn runs(changes: &[EntryChange], between: &Between) -> Vec<ChangeRun> {
    let mut sorted = changes.to_vec();
    sorted.sort_by_key(|change| {
        let root = change.way.map(|(root, _)| root);
        (root, change.level, change.gva(), change.place)
    });
    let mut runs: Vec<ChangeRun> = Vec::new();
    for change in sorted {
        let cause = between.cause(&change);
        let joined = runs.last_mut().is_some_and(|run| run.join(&change, cause));
        if !joined {
            runs.push(ChangeRun::new(change, cause));
        }
    }
    runs.sort_by_key(|run| run.first.order());
    runs
}
