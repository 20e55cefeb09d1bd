//! Which addresses an entry translates: the paths from the roots down to it.

use events::{Gva, Hpa, Level};

use super::{history::History, state::Before};
use crate::{
    explain::facts::{Translation, Translations},
    replay::{LOWEST_ROOT, VmReplay, canonical, first_gva},
};

/// Addresses listed of one entry.
const MAX_FOUND: usize = 8;
/// Tables visited at most: shared tables could make it 512^4.
const MAX_TABLES: usize = 4096;

/// The addresses that the entry at `sptep` translates.
pub(super) fn translations(sptep: Hpa, before: Before<'_>) -> Translations {
    let Some(replay) = before.replay else {
        return Translations::default();
    };
    let mut climb = Climb {
        replay,
        history: before.history,
        to: Translations::default(),
        left: MAX_TABLES,
    };
    if let Some(page) = replay.tables().page(sptep.table()) {
        climb.up(page.info.spt, offset(page.info.level, sptep.index()));
    }
    climb.to.found.sort();
    climb.to
}

/// What an index at a level adds to an address.
fn offset(level: Level, index: u16) -> u64 {
    (level.pages() << 12).wrapping_mul(u64::from(index))
}

struct Climb<'a> {
    replay: &'a VmReplay,
    history: &'a History,
    to: Translations,
    left: usize,
}

impl Climb<'_> {
    /// Goes up from a table; `within` is the address so far.
    fn up(&mut self, spt: Hpa, within: u64) {
        let tables = self.replay.tables();
        let Some(page) = tables.page(spt) else { return };
        if self.left == 0 || self.to.found.len() >= MAX_FOUND {
            self.to.more = true;
            return;
        }
        self.left -= 1;
        let mut is_linked = false;
        for place in tables.parents(spt) {
            let Some(parent) = tables.page(place.table()) else {
                continue;
            };
            // A link points to a lower level; in a hostile trace it may not.
            if parent.info.level > page.info.level {
                is_linked = true;
                let above = offset(parent.info.level, place.index());
                self.up(parent.info.spt, within.wrapping_add(above));
            }
        }
        for (root, pdptes) in self.replay.pae_roots() {
            for (number, table) in (0_u64..).zip(pdptes) {
                if *table == Some(spt) {
                    is_linked = true;
                    self.found(root, Gva(within.wrapping_add(number << 30)));
                }
            }
        }
        let is_root = page.info.level >= LOWEST_ROOT || page.info.direct;
        if !is_linked && is_root {
            let gva = within.wrapping_add(first_gva(page));
            self.found(spt, canonical(gva, page.info.level));
        }
    }

    fn found(&mut self, root: Hpa, gva: Gva) {
        if self.to.found.len() >= MAX_FOUND {
            self.to.more = true;
            return;
        }
        self.to.found.push(Translation {
            gva,
            root,
            cr3: self.history.cr3(root),
        });
    }
}
