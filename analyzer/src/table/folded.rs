//! Changes of adjoining entries, folded.

use events::Spte;

use super::{Between, EntryChange};
use crate::replay::FrameOrder;

/// Entries next to each other with the same change.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeRun {
    /// The first of them.
    pub first: EntryChange,
    /// How many.
    pub entries: u64,
    /// Why they changed.
    pub cause: &'static str,
    /// Their guest frames.
    pub gfns: FrameOrder,
    /// Their host frames.
    pub pfns: FrameOrder,
    last: EntryChange,
}

impl ChangeRun {
    fn new(change: EntryChange, cause: &'static str) -> Self {
        Self {
            first: change,
            entries: 1,
            cause,
            gfns: FrameOrder::default(),
            pfns: FrameOrder::default(),
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
        // Of unknown guest frames none is shown.
        let gfn = |of: &EntryChange| of.gfn.map_or(u64::MAX, |gfn| gfn.0);
        let pfn = |of: &EntryChange| of.present().pfn().0;
        self.gfns = self.gfns.then([gfn(&last), gfn(next)], pages);
        self.pfns = self.pfns.then([pfn(&last), pfn(next)], pages);
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
