//! The guest's own page tables, as KVM keeps them shadowed: protected, stored to, unsync, synced,
//! protected again.

use events::{Cause, Gfn, Level, PageEvent};
use serde::Serialize;
use trace::{EntryRow, PageRow, Record};

use crate::replay::{AddressMap, ShadowTables, VmReplay};

/// What became of one guest table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PingPong {
    /// Level of the shadow page that was seen last.
    pub level: u8,
    /// Times that KVM write-protected it: a shadow page of it was made, or synced.
    pub protected: u64,
    /// The guest's stores to it that KVM emulated.
    pub stores: u64,
    /// Times that it went unsync.
    pub unsync: u64,
    /// Times that it was synced.
    pub synced: u64,
    /// Shadow pages of it that were zapped.
    pub zapped: u64,
    /// Times that it was protected again after the guest could write it: the rounds of its
    /// ping-pong.
    pub again: u64,
    /// Present entries that stores, syncs and INVLPG took from its shadow pages.
    pub entries_lost: u64,
    /// The guest may write it now, and it was protected before.
    #[serde(skip)]
    open: bool,
}

/// Tables that are followed; events of later ones are counted together.
const TABLES: usize = 1 << 18;

/// Every guest table that was shadowed.
#[derive(Clone, Debug, Default)]
pub struct GuestTables {
    tables: AddressMap<Gfn, PingPong>,
    others: PingPong,
}

impl GuestTables {
    /// The next record, before it takes effect.
    pub(super) fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        match (record, vm) {
            (Record::Entry(row), Some(vm)) => self.entry(row, vm.tables()),
            (Record::Write(row), Some(vm)) => {
                let gfn = row.gpa.gfn();
                if let Some(spt) = vm.tables().shadowing(gfn).first() {
                    let page = vm.tables().page(*spt);
                    let of = self.of(gfn);
                    of.level = page.map_or(0, |page| page.info.level.0);
                    of.stores += 1;
                }
            }
            _ => {}
        }
    }

    /// The same record, once it has taken effect.
    pub(super) fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        if let (Record::Page(row), Some(vm)) = (record, vm)
            && row.direct == 0
        {
            self.page(row, vm.tables());
        }
    }

    fn of(&mut self, gfn: Gfn) -> &mut PingPong {
        if self.tables.len() >= TABLES && !self.tables.contains_key(&gfn) {
            return &mut self.others;
        }
        self.tables.entry(gfn).or_default()
    }

    fn entry(&mut self, row: &EntryRow, tables: &ShadowTables) {
        if !matches!(row.cause, Cause::GuestWrite | Cause::Sync | Cause::Invlpg) {
            return;
        }
        let Some(page) = tables.page(row.sptep.table()) else {
            return;
        };
        let was = page.entry(row.sptep.index());
        if was.is_shadow_present() && !row.spte.is_shadow_present() && !page.info.direct {
            let of = self.of(page.info.gfn);
            of.level = page.info.level.0;
            of.entries_lost += 1;
        }
    }

    fn page(&mut self, row: &PageRow, tables: &ShadowTables) {
        let Level(level) = row.level;
        let is_shadowed = !tables.shadowing(row.gfn).is_empty();
        let of = self.of(row.gfn);
        of.level = level;
        let protects = match row.event {
            PageEvent::Born => true,
            PageEvent::Reused => false,
            PageEvent::Unsync => {
                of.unsync += 1;
                of.open = true;
                false
            }
            PageEvent::Sync => {
                of.synced += 1;
                true
            }
            PageEvent::Zapped => {
                of.zapped += 1;
                of.open |= !is_shadowed;
                false
            }
        };
        if protects {
            of.protected += 1;
            of.again += u64::from(std::mem::take(&mut of.open));
        }
    }

    /// One table.
    pub fn get(&self, gfn: Gfn) -> Option<&PingPong> {
        self.tables.get(&gfn)
    }

    /// Every table, by frame.
    pub fn sorted(&self) -> Vec<(Gfn, PingPong)> {
        let mut all: Vec<_> = self.tables.iter().map(|(gfn, of)| (*gfn, *of)).collect();
        all.sort_by_key(|(gfn, _)| *gfn);
        all
    }

    /// Events of the tables that are not followed one by one, if there are any.
    pub fn others(&self) -> Option<&PingPong> {
        (self.others != PingPong::default()).then_some(&self.others)
    }
}
