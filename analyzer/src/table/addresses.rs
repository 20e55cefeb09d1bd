//! Which addresses each table translates.

use std::collections::HashMap;

use events::{Gva, Hpa, Level};

use crate::replay::{PAE_LEVEL, ShadowPage, VmReplay, canonical, first_gva};

/// How a table is reached.
#[derive(Clone, Copy, Debug)]
struct Way {
    root: Hpa,
    /// Level of the root.
    level: Level,
    /// The first address that the table translates, not sign-extended.
    base: u64,
}

/// The way to each table from the first root that reaches it.
#[derive(Debug, Default)]
pub(super) struct Addresses(HashMap<Hpa, Way>);

impl Addresses {
    pub(super) fn of(vm: &VmReplay) -> Self {
        let mut ways = Self::default();
        for root in vm.table_roots().all() {
            match vm.pdptes(root) {
                Some(pdptes) => {
                    for (number, table) in (0_u64..).zip(pdptes) {
                        let level = PAE_LEVEL;
                        let base = number * (level.pages() << 12);
                        if let Some(page) = vm.pdpte_table(*table) {
                            ways.visit(vm, page, Way { root, level, base });
                        }
                    }
                }
                None => {
                    if let Some(page) = vm.tables().page(root) {
                        let (level, base) = (page.info.level, first_gva(page));
                        ways.visit(vm, page, Way { root, level, base });
                    }
                }
            }
        }
        ways
    }

    /// Each table once: its children are of lower levels, so this ends.
    fn visit(&mut self, vm: &VmReplay, page: &ShadowPage, way: Way) {
        if self.0.contains_key(&page.info.spt) {
            return;
        }
        self.0.insert(page.info.spt, way);
        for (index, spte) in page.entries() {
            if let Some(child) = vm.tables().child(page, spte) {
                let base = address(way.base, page.info.level, index);
                self.visit(vm, child, Way { base, ..way });
            }
        }
    }

    /// The root that reaches an entry, and the first address that the entry translates.
    pub(super) fn get(&self, place: Hpa, level: Level) -> Option<(Hpa, Gva)> {
        let way = self.0.get(&place.table())?;
        let gva = address(way.base, level, place.index());
        Some((way.root, canonical(gva, way.level)))
    }
}

fn address(base: u64, level: Level, index: u16) -> u64 {
    let span = level.pages() << 12;
    base.wrapping_add(span.wrapping_mul(u64::from(index)))
}
