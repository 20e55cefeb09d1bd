//! The guest's own page tables, as KVM keeps them shadowed: protected, stored to, unsync, synced,
//! protected again.

use events::{Cause, Class, Gfn, Gpa, Gva, Level, PageEvent, Seq};
use serde::{Serialize, Serializer};
use trace::{EntryRow, FaultRow, PageRow, Record};

use crate::{
    faults::{Paid, gpa, switched_out_ns},
    refaults::RefaultCause,
    replay::{AddressMap, ShadowTables, VmReplay},
};

/// What became of one guest table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PingPong {
    /// Levels of its shadow pages: of several, if the guest used the frame again.
    pub levels: Levels,
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
    /// Times that it was protected again after it had gone unsync: the rounds of its ping-pong. A
    /// table that is shadowed again after a zap was no unsync one, and makes none.
    pub again: u64,
    /// Present entries that stores, syncs and INVLPG took from its shadow pages.
    pub entries_lost: u64,
    /// Time of the faults that its rounds make, ns: those on stores to it while it was protected, and
    /// those on what its syncs took away. Stores that KVM emulates without a fault, and what they
    /// took away, are no part of it.
    pub rounds_ns: u64,
    /// Of it, faults whose thread was switched out meanwhile, ns.
    pub rounds_switched_out_ns: u64,
    /// The latest fault on a store to it.
    #[serde(skip)]
    pub last: Option<StoreFault>,
    /// The costliest fault that made it unsync in a round that is complete.
    #[serde(skip)]
    pub worst: Option<StoreFault>,
    /// The fault that made it unsync, until it is protected again.
    #[serde(skip)]
    opener: Option<StoreFault>,
    /// It is unsync.
    #[serde(skip)]
    open: bool,
}

/// Levels of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels(u8);

impl Levels {
    /// From the lowest on.
    pub fn each(self) -> impl Iterator<Item = Level> {
        let has = move |level: &u8| self.0 & 1 << level != 0;
        (0..8).filter(has).map(Level)
    }

    /// As `1, 3`; empty without any.
    pub fn words(self) -> String {
        let levels = self.each().map(|level| level.to_string());
        levels.collect::<Vec<_>>().join(", ")
    }
}

impl Extend<Level> for Levels {
    /// A level that no page can have is none.
    fn extend<T: IntoIterator<Item = Level>>(&mut self, levels: T) {
        for Level(level) in levels {
            self.0 |= 1_u8.checked_shl(level.into()).unwrap_or(0);
        }
    }
}

impl Serialize for Levels {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.each())
    }
}

/// A fault on a store to a guest table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFault {
    /// Its number.
    pub seq: Seq,
    /// Whose it was.
    pub cr3: Gpa,
    /// Where the guest was.
    pub rip: Option<Gva>,
    /// Where it stored.
    pub gva: Gva,
    /// What it cost, ns; nothing if that holds other work.
    own_ns: u64,
}

/// Tables that are followed; events of later ones are counted together.
const TABLES: usize = 1 << 18;

/// Every guest table that was shadowed.
#[derive(Clone, Debug, Default)]
pub struct GuestTables {
    tables: AddressMap<Gfn, PingPong>,
    others: PingPong,
    /// The page of the record was known before it.
    was_live: bool,
}

impl PingPong {
    /// What its rounds cost.
    pub fn rounds(&self) -> Paid {
        Paid {
            total_ns: self.rounds_ns,
            switched_out_ns: self.rounds_switched_out_ns,
        }
    }

    /// Nothing happened to it.
    pub fn is_quiet(&self) -> bool {
        let Self {
            levels: _,
            protected,
            stores,
            unsync,
            synced,
            zapped,
            again,
            entries_lost,
            rounds_ns: _,
            rounds_switched_out_ns: _,
            last: _,
            worst: _,
            opener: _,
            open: _,
        } = *self;
        [
            protected,
            stores,
            unsync,
            synced,
            zapped,
            again,
            entries_lost,
        ] == [0; 7]
    }
}

impl GuestTables {
    /// The next record, before it takes effect. What is not `inside` of the stretch asked for is
    /// not counted, but changes what later records mean.
    pub(super) fn before(&mut self, record: &Record, vm: Option<&VmReplay>, inside: bool) {
        self.was_live = false;
        match (record, vm) {
            (Record::Page(row), Some(vm)) => {
                self.was_live = vm.tables().page(row.spt).is_some();
            }
            (Record::Entry(row), Some(vm)) => self.entry(row, vm.tables(), inside),
            (Record::Write(row), Some(vm)) => {
                let gfn = row.gpa.gfn();
                if let Some(spt) = vm.tables().shadowing(gfn).first() {
                    let page = vm.tables().page(*spt);
                    let of = self.of(gfn);
                    of.levels.extend(page.map(|page| page.info.level));
                    of.stores += u64::from(inside);
                }
            }
            _ => {}
        }
    }

    /// The same record, once it has taken effect.
    pub(super) fn after(&mut self, record: &Record, vm: Option<&VmReplay>, inside: bool) {
        match (record, vm) {
            (Record::Page(row), Some(vm)) if row.direct == 0 => {
                self.page(row, vm.tables(), inside);
            }
            (Record::Fault(row), _) if inside => self.fault(row),
            _ => {}
        }
    }

    fn fault(&mut self, row: &FaultRow) {
        if matches!(row.class, Class::WriteProtected | Class::Unsync)
            && let Some(gpa) = gpa(row)
            && let Some(table) = self.tables.get_mut(&gpa.gfn())
        {
            let fault = StoreFault {
                seq: row.seq,
                cr3: row.cr3,
                rip: row.rip,
                gva: row.gva,
                own_ns: row.total_ns.saturating_sub(switched_out_ns(row)),
            };
            table.last = Some(fault);
            // Its record comes after that of the page, which it made unsync.
            if row.class == Class::Unsync && table.open {
                table.opener = Some(fault);
            }
        }
    }

    /// A fault is paid for a table; `cause` is what had removed its entry, if anything had.
    pub(super) fn pays(&mut self, gfn: Gfn, row: &FaultRow, cause: Option<RefaultCause>) {
        let of_round = match row.class {
            Class::WriteProtected | Class::Unsync => true,
            _ => matches!(cause, Some(RefaultCause::Sync | RefaultCause::Invlpg)),
        };
        if of_round {
            let of = self.of(gfn);
            let mut rounds = of.rounds();
            rounds.add(row);
            of.rounds_ns = rounds.total_ns;
            of.rounds_switched_out_ns = rounds.switched_out_ns;
        }
    }

    fn of(&mut self, gfn: Gfn) -> &mut PingPong {
        if self.tables.len() >= TABLES && !self.tables.contains_key(&gfn) {
            return &mut self.others;
        }
        self.tables.entry(gfn).or_default()
    }

    fn entry(&mut self, row: &EntryRow, tables: &ShadowTables, inside: bool) {
        if !matches!(row.cause, Cause::GuestWrite | Cause::Sync | Cause::Invlpg) {
            return;
        }
        let Some(page) = tables.page(row.sptep.table()) else {
            return;
        };
        let was = page.entry(row.sptep.index());
        if was.is_shadow_present() && !row.spte.is_shadow_present() && !page.info.direct {
            let of = self.of(page.info.gfn);
            of.levels.extend([page.info.level]);
            of.entries_lost += u64::from(inside);
        }
    }

    fn page(&mut self, row: &PageRow, tables: &ShadowTables, inside: bool) {
        let counts = match row.event {
            // Zapping an unsync page takes it off the list of those to be synced, no more.
            PageEvent::Sync => tables.page(row.spt).is_some(),
            // A root in use is zapped once more when it is freed.
            PageEvent::Zapped => self.was_live,
            PageEvent::Born | PageEvent::Reused | PageEvent::Unsync => true,
        };
        if !counts {
            return;
        }
        let one = u64::from(inside);
        let of = self.of(row.gfn);
        of.levels.extend([row.level]);
        let protects = match row.event {
            PageEvent::Born => true,
            PageEvent::Reused => false,
            PageEvent::Unsync => {
                of.unsync += one;
                of.open = true;
                false
            }
            PageEvent::Sync => {
                of.synced += one;
                true
            }
            PageEvent::Zapped => {
                of.zapped += one;
                false
            }
        };
        if protects {
            of.protected += one;
            let again = std::mem::take(&mut of.open);
            let opener = of.opener.take();
            if again && inside {
                of.again += 1;
                let ns = |fault: StoreFault| fault.own_ns;
                if opener.map(ns) > of.worst.map(ns) {
                    of.worst = opener;
                }
            }
        }
    }

    /// One table.
    pub fn get(&self, gfn: Gfn) -> Option<&PingPong> {
        self.tables.get(&gfn)
    }

    /// Every table, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Gfn, &PingPong)> {
        self.tables.iter()
    }

    /// Every table, by frame.
    pub fn sorted(&self) -> Vec<(Gfn, PingPong)> {
        let mut all: Vec<_> = self.tables.iter().map(|(gfn, of)| (*gfn, *of)).collect();
        all.sort_by_key(|(gfn, _)| *gfn);
        all
    }

    /// Events of the tables that are not followed one by one, if there are any.
    pub fn others(&self) -> Option<&PingPong> {
        (!self.others.is_quiet()).then_some(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use events::{Hpa, Role, Seq, TimeNs, VmId};

    use super::*;
    use crate::replay::{Replay, ReplayOptions};

    const VM: VmId = VmId(0);
    const TABLE: Gfn = Gfn(0x20);

    fn feed(events: &[PageEvent], inside: impl Fn(usize) -> bool) -> PingPong {
        let mut replay = Replay::new(ReplayOptions {
            from_birth: true,
            ..ReplayOptions::default()
        });
        let mut tables = GuestTables::default();
        for (number, event) in events.iter().enumerate() {
            let record = Record::Page(PageRow {
                seq: Seq(number as u64),
                time_ns: TimeNs(number as u64),
                vm: VM,
                vcpu: None,
                event: *event,
                spt: Hpa(0x5000),
                gfn: TABLE,
                role: Role(1),
                level: Level(1),
                direct: 0,
                unsync: 0,
            });
            tables.before(&record, replay.vm(VM), inside(number));
            replay.apply(&record);
            tables.after(&record, replay.vm(VM), inside(number));
        }
        tables.get(TABLE).copied().unwrap_or_default()
    }

    #[test]
    fn a_frame_that_was_a_table_of_several_levels_has_them_all() {
        let mut levels = Levels::default();
        assert_eq!(levels.words(), "");
        levels.extend([3, 1, 3, 200].map(Level));
        assert_eq!(levels.words(), "1, 3");
        assert_eq!(serde_json::json!(levels), serde_json::json!([1, 3]));
    }

    #[test]
    fn what_the_kernel_says_again_of_a_zapped_page_is_not_counted() {
        use PageEvent::{Born, Sync, Unsync, Zapped};
        let of = feed(&[Born, Unsync, Sync, Unsync, Zapped, Sync, Zapped], |_| {
            true
        });
        assert_eq!((of.protected, of.unsync, of.synced), (2, 2, 1));
        assert_eq!((of.zapped, of.again), (1, 1));
        let of = feed(&[Born, Unsync, Zapped, Sync, Born], |_| true);
        assert_eq!((of.protected, of.synced, of.again), (2, 0, 1));
    }

    /// The guest did not store to it while it was unsync.
    #[test]
    fn a_table_that_is_rebuilt_after_a_zap_makes_no_round() {
        use PageEvent::{Born, Zapped};
        let of = feed(&[Born, Zapped, Born, Zapped, Born], |_| true);
        assert_eq!((of.protected, of.zapped, of.again), (3, 2, 0));
    }

    #[test]
    fn what_is_before_the_stretch_is_known_but_not_counted() {
        use PageEvent::{Born, Sync, Unsync};
        let events = [Born, Unsync, Sync, Unsync];
        let of = feed(&events, |number| number == 2);
        assert_eq!((of.protected, of.unsync, of.synced, of.again), (1, 0, 1, 1));
        assert!(feed(&events, |_| false).is_quiet());
    }
}
