//! From an entry up to the roots: the addresses that it translates.

use events::{Gva, Hpa, Level};

use crate::replay::{AddressSet, LOWEST_ROOT, MAX_LEVEL, VmReplay, canonical, first_gva};

/// One way from a root to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// The root.
    pub root: Hpa,
    /// The first address that the entry translates there.
    pub gva: Gva,
}

/// All ways to an entry.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// In order.
    pub found: Vec<Path>,
    /// There are more: the tables share too many pages.
    pub more: bool,
    /// Pages visited.
    pub visits: u64,
}

/// Ways listed of one entry.
const MOST: usize = 4096;
/// Pages visited at most: shared tables could make it 512^4.
const VISITS: u64 = 1 << 16;

/// The level of roots, as [`VmReplay::table_roots`] has it; `None` where only PAE roots are.
pub(super) fn root_level(vm: &VmReplay) -> Option<Level> {
    let levels = (1..=MAX_LEVEL as u64).rev();
    let pages = vm.tables().totals().pages;
    let mut counts = levels.zip(pages.iter().rev());
    let (top, _) = counts.find(|(_, pages)| **pages > 0)?;
    let top = Level(u8::try_from(top).ok()?);
    (top >= LOWEST_ROOT || vm.pae_roots().next().is_none()).then_some(top)
}

/// The ways to the entry at `place`. Every page on them is added to `above`, also on those that
/// lead to no root.
pub fn paths(vm: &VmReplay, place: Hpa, above: &mut AddressSet<Hpa>) -> Paths {
    let mut climb = Climb {
        vm,
        top: root_level(vm),
        above,
        to: Paths::default(),
    };
    if let Some(page) = vm.tables().page(place.table()) {
        climb.up(page.info.spt, offset(page.info.level, place.index()));
    }
    climb.to.found.sort();
    climb.to
}

/// What an index at a level adds to an address.
fn offset(level: Level, index: u16) -> u64 {
    (level.pages() << 12).wrapping_mul(u64::from(index))
}

struct Climb<'a> {
    vm: &'a VmReplay,
    top: Option<Level>,
    above: &'a mut AddressSet<Hpa>,
    to: Paths,
}

impl Climb<'_> {
    /// Goes up from a table; `within` is the address so far.
    fn up(&mut self, spt: Hpa, within: u64) {
        let tables = self.vm.tables();
        let Some(page) = tables.page(spt) else { return };
        if self.to.visits >= VISITS || self.to.found.len() >= MOST {
            self.to.more = true;
            return;
        }
        self.to.visits += 1;
        self.above.insert(spt);
        let parents = tables.parents(spt);
        for place in parents {
            let Some(parent) = tables.page(place.table()) else {
                continue;
            };
            // A link points to a lower level; in a hostile trace it may not.
            if parent.info.level > page.info.level {
                let above = offset(parent.info.level, place.index());
                self.up(parent.info.spt, within.wrapping_add(above));
            }
        }
        let mut is_below_pae = false;
        for (root, pdptes) in self.vm.pae_roots() {
            for (number, table) in (0_u64..).zip(pdptes) {
                if *table == Some(spt) {
                    is_below_pae = true;
                    let gva = Gva(within.wrapping_add(number << 30));
                    self.to.found.push(Path { root, gva });
                }
            }
        }
        if parents.is_empty() && !is_below_pae && Some(page.info.level) == self.top {
            let gva = canonical(within.wrapping_add(first_gva(page)), page.info.level);
            self.to.found.push(Path { root: spt, gva });
        }
    }
}
