//! Which addresses an entry translates: the ways that lead to it from the roots.

use events::{Gpa, Gva, Hpa, Level};

use super::history::History;
use crate::replay::{LOWEST_ROOT, VmReplay, canonical, first_gva};

/// One way to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// First address that the entry translates.
    pub gva: Gva,
    /// Where the way begins.
    pub root: Hpa,
    /// The guest's CR3 that this root was last used for.
    pub cr3: Option<Gpa>,
}

impl Way {
    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "gva": self.gva.0, "root": self.root.0, "cr3": self.cr3.map(|cr3| cr3.0),
        })
    }
}

/// The ways to an entry, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Those found.
    pub found: Vec<Way>,
    /// There are more than were followed.
    pub more: bool,
}

/// Ways told of one entry.
const MAX_WAYS: usize = 8;
/// Tables climbed at most: shared tables could make it 512^4.
const MAX_TABLES: usize = 4096;

impl Ways {
    /// The ways to the entry at `place`.
    pub(super) fn to(place: Hpa, replay: &VmReplay, history: &History) -> Self {
        let mut climb = Climb {
            replay,
            history,
            ways: Ways::default(),
            left: MAX_TABLES,
        };
        if let Some(page) = replay.tables().page(place.table()) {
            let within = offset(page.info.level, place.index());
            climb.up(page.info.spt, within);
        }
        climb.ways.found.sort();
        climb.ways
    }

    /// Whether an address is among those that the entry, at `level`, translates.
    pub(super) fn lead(&self, gva: Gva, level: Level) -> bool {
        let bytes = level.pages() << 12;
        let mut starts = self.found.iter().map(|way| way.gva.0);
        starts.any(|start| gva.0.wrapping_sub(start) < bytes)
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        self.found.iter().map(Way::json).collect()
    }
}

/// What an index at a level adds to an address.
fn offset(level: Level, index: u16) -> u64 {
    (level.pages() << 12).wrapping_mul(u64::from(index))
}

struct Climb<'a> {
    replay: &'a VmReplay,
    history: &'a History,
    ways: Ways,
    left: usize,
}

impl Climb<'_> {
    /// From a table up: `within` is the address so far.
    fn up(&mut self, spt: Hpa, within: u64) {
        let tables = self.replay.tables();
        let Some(page) = tables.page(spt) else { return };
        if self.left == 0 || self.ways.found.len() >= MAX_WAYS {
            self.ways.more = true;
            return;
        }
        self.left -= 1;
        let mut is_linked = false;
        for place in tables.parents(spt) {
            let Some(parent) = tables.page(place.table()) else {
                continue;
            };
            // Links lead downwards; a hostile trace's need not.
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
        if self.ways.found.len() >= MAX_WAYS {
            self.ways.more = true;
            return;
        }
        self.ways.found.push(Way {
            gva,
            root,
            cr3: self.history.cr3(root),
        });
    }
}
