//! The same bill, made naively: every entry that ever was is kept, by table and index.

use std::collections::BTreeMap;

use events::{
    Cause, Class, ErrorCode, Gfn, Gpa, Gva, HostEvent, Hpa, Level, PageEvent, Role, RoleLayout,
    Seq, Spte, TimeNs, VcpuId, VmId,
};
use proptest::prelude::*;
use trace::{EntryRow, FaultRow, HostRow, Meta, PageRow, Record, WriteRow};

use super::{Options, RefaultCause, Refaulted, Refaults};
use crate::{
    replay::{Gaps, Replay, ReplayOptions, blank_fault},
    study::{Follow as _, Subject},
};

const CPU: Option<VcpuId> = Some(VcpuId(0));
const TABLES: u64 = 3;
const INDEXES: u64 = 4;
const FRAMES: u64 = 4;
/// Frame of the first table; those of the pages come before.
const FIRST_TABLE: u64 = 100;

/// What happens to a table and one of its entries.
#[derive(Clone, Copy, Debug)]
enum Step {
    Born,
    Fault {
        frame: u64,
        write: bool,
    },
    Store,
    Sync,
    Invlpg,
    Dirty,
    Unmap {
        frame: u64,
    },
    ZapBySlot,
    /// The flush is announced, and another page is made before the old one is zapped.
    MadeBeforeZap {
        announced: bool,
    },
    ZapByStore,
}

fn step() -> impl Strategy<Value = (u64, u64, Step)> {
    let frame = || prop_oneof![4 => 0..FRAMES, 1 => FIRST_TABLE..FIRST_TABLE + TABLES];
    let step = prop_oneof![
        2 => Just(Step::Born),
        8 => (frame(), any::<bool>()).prop_map(|(frame, write)| Step::Fault { frame, write }),
        2 => Just(Step::Store),
        1 => Just(Step::Sync),
        1 => Just(Step::Invlpg),
        2 => Just(Step::Dirty),
        1 => frame().prop_map(|frame| Step::Unmap { frame }),
        1 => Just(Step::ZapBySlot),
        1 => any::<bool>().prop_map(|announced| Step::MadeBeforeZap { announced }),
        1 => Just(Step::ZapByStore),
    ];
    (0..TABLES, 0..INDEXES, step)
}

/// The records of some steps, and what they must add up to.
#[derive(Default)]
struct Naive {
    records: Vec<Record>,
    /// Shadow entries that are there: frame and whether writable.
    there: BTreeMap<(u64, u64), (u64, bool)>,
    /// What removed or weakened an entry last.
    lost: BTreeMap<(u64, u64), RefaultCause>,
    /// Entries that were there once, and writable when last seen.
    known: BTreeMap<(u64, u64), bool>,
    live: Vec<u64>,
    /// Shadow pages that a table has had.
    pages: BTreeMap<u64, u64>,
    refaults: BTreeMap<RefaultCause, u64>,
    removed: BTreeMap<RefaultCause, u64>,
    weakened: BTreeMap<RefaultCause, u64>,
    first: u64,
    strengthened: u64,
}

fn spte(frame: u64, writable: bool) -> Spte {
    let rights = if writable { 1 << 10 | 2 } else { 0 };
    Spte(1 << 11 | 5 | rights | (frame + 0x1000) << 12)
}

impl Naive {
    fn spt(&self, table: u64) -> u64 {
        let pages = self.pages.get(&table).copied().unwrap_or_default();
        (pages * TABLES + table + 1) << 12
    }

    fn at(&self) -> (Seq, TimeNs) {
        let seq = self.records.len() as u64;
        (Seq(seq), TimeNs(seq * 10))
    }

    fn remove(&mut self, place: (u64, u64), cause: RefaultCause) {
        if self.there.remove(&place).is_some() {
            self.lost.insert(place, cause);
            *self.removed.entry(cause).or_default() += 1;
        }
    }

    /// An entry that is weak already stays what weakened it first.
    fn weaken(&mut self, place: (u64, u64), cause: RefaultCause) {
        if let Some((_, writable)) = self.there.get_mut(&place)
            && std::mem::take(writable)
            && !self.lost.contains_key(&place)
        {
            self.lost.insert(place, cause);
            *self.weakened.entry(cause).or_default() += 1;
        }
    }

    fn entry(&mut self, (table, index): (u64, u64), cause: Cause, vcpu: Option<VcpuId>, to: Spte) {
        let (seq, time_ns) = self.at();
        self.records.push(Record::Entry(EntryRow {
            seq,
            time_ns,
            vm: VmId(0),
            vcpu,
            cause,
            sptep: Hpa(self.spt(table) + index * 8),
            spte: to,
            old: None,
            level: Level(1),
            gfn: None,
        }));
    }

    fn page(&mut self, table: u64, event: PageEvent, vcpu: Option<VcpuId>) {
        let (seq, time_ns) = self.at();
        self.records.push(Record::Page(PageRow {
            seq,
            time_ns,
            vm: VmId(0),
            vcpu,
            event,
            spt: Hpa(self.spt(table)),
            gfn: Gfn(FIRST_TABLE + table),
            role: Role(1),
            level: Level(1),
            direct: 0,
            unsync: 0,
        }));
    }

    fn host(&mut self, event: HostEvent, gfn: u64) {
        let (seq, time_ns) = self.at();
        self.records.push(Record::Host(HostRow {
            seq,
            time_ns,
            vm: VmId(0),
            vcpu: None,
            event,
            slot: None,
            gfn: Gfn(gfn),
            pages: 1,
        }));
    }

    fn write(&mut self, (table, index): (u64, u64)) {
        let (seq, time_ns) = self.at();
        self.records.push(Record::Write(WriteRow {
            seq,
            time_ns,
            vm: VmId(0),
            vcpu: VcpuId(0),
            gpa: Gpa(((FIRST_TABLE + table) << 12) | (index * 8)),
            bytes: 8,
            value: 0,
        }));
    }

    /// Every writable leaf of the table's frame loses that.
    fn protect(&mut self, table: u64) {
        let maps = |(_, of): &(&(u64, u64), &(u64, bool))| of.0 == FIRST_TABLE + table;
        let leaves: Vec<_> = self.there.iter().filter(maps).map(|(at, _)| *at).collect();
        for leaf in leaves {
            self.weaken(leaf, RefaultCause::WriteProtect);
        }
    }

    fn zap(&mut self, table: u64, vcpu: Option<VcpuId>, cause: RefaultCause) {
        self.page(table, PageEvent::Zapped, vcpu);
        self.live.retain(|live| *live != table);
        for index in 0..INDEXES {
            self.remove((table, index), cause);
        }
    }

    fn step(&mut self, place: (u64, u64), step: Step) {
        let (table, _) = place;
        let live = self.live.contains(&table);
        let there = self.there.get(&place).copied();
        match step {
            Step::Born if !live => {
                self.live.push(table);
                self.page(table, PageEvent::Born, CPU);
                self.protect(table);
            }
            Step::Fault { frame, write } if live => self.fault(place, there, frame, write),
            Step::Store if there.is_some() => {
                self.write(place);
                self.entry(place, Cause::GuestWrite, CPU, Spte(0));
                self.remove(place, RefaultCause::GuestStore);
            }
            Step::Sync | Step::Invlpg if there.is_some_and(|(frame, _)| frame < FIRST_TABLE) => {
                let (cause, of) = match step {
                    Step::Sync => (Cause::Sync, RefaultCause::Sync),
                    _ => (Cause::Invlpg, RefaultCause::Invlpg),
                };
                self.entry(place, cause, CPU, Spte(0));
                self.remove(place, of);
            }
            Step::Dirty => {
                if let Some((frame, true)) = there {
                    self.host(HostEvent::DirtyClear, frame);
                    self.entry(place, Cause::DirtyLog, None, spte(frame, false));
                    self.weaken(place, RefaultCause::DirtyLog);
                }
            }
            Step::Unmap { frame } => {
                self.host(HostEvent::Unmap, frame);
                let maps = |(_, of): &(&(u64, u64), &(u64, bool))| of.0 == frame;
                let leaves: Vec<_> = self.there.iter().filter(maps).map(|(at, _)| *at).collect();
                for leaf in leaves {
                    self.entry(leaf, Cause::HostUnmap, None, Spte(0));
                    self.remove(leaf, RefaultCause::HostUnmap);
                }
            }
            Step::ZapBySlot if live => {
                self.host(HostEvent::FlushSlot, 0);
                self.zap(table, None, RefaultCause::Memslot);
            }
            Step::MadeBeforeZap { announced } if live => {
                if announced {
                    self.host(HostEvent::FlushSlot, 0);
                }
                let old = self.spt(table);
                for index in 0..INDEXES {
                    self.remove((table, index), RefaultCause::Memslot);
                }
                *self.pages.entry(table).or_default() += 1;
                self.page(table, PageEvent::Born, CPU);
                self.protect(table);
                self.page(table, PageEvent::Zapped, None);
                if let Some(Record::Page(zapped)) = self.records.last_mut() {
                    zapped.spt = Hpa(old);
                }
                if !announced {
                    self.host(HostEvent::FlushSlot, 0);
                }
            }
            Step::ZapByStore if live => {
                self.write(place);
                self.zap(table, CPU, RefaultCause::Flooding);
            }
            _ => {}
        }
    }

    fn fault(&mut self, place: (u64, u64), there: Option<(u64, bool)>, frame: u64, write: bool) {
        let (table, index) = place;
        // A frame that stays maps the same page.
        let frame = there.map_or(frame, |(frame, _)| frame);
        let was_writable = there.is_some_and(|(_, writable)| writable);
        let writable = write || was_writable;
        let does = there.is_some() && (was_writable || !write);
        let lost = self.lost.get(&place).copied().filter(|_| !does);
        match lost {
            Some(cause) => *self.refaults.entry(cause).or_default() += 1,
            None if does => *self.refaults.entry(RefaultCause::NotSeen).or_default() += 1,
            None if there.is_none() => {
                assert!(!self.known.contains_key(&place), "it went for a reason");
                self.first += 1;
            }
            None => self.strengthened += 1,
        }
        // What stays weak still misses what it lost.
        if there.is_none() || (writable && !was_writable) {
            self.lost.remove(&place);
        }
        self.there.insert(place, (frame, writable));
        self.known.insert(place, writable);
        let (seq, time_ns) = self.at();
        let code = if write { 6 } else { 4 };
        self.records.push(Record::Fault(FaultRow {
            class: Class::Shadow,
            time_ns,
            gva: Gva(table << 21 | index << 12),
            error_code: ErrorCode(code),
            gpa: Some(Gfn(frame).gpa(0)),
            sptep: Some(Hpa(self.spt(table) + index * 8)),
            spte: Some(spte(frame, writable)),
            level: Some(Level(1)),
            total_ns: 7,
            ..blank_fault(seq)
        }));
    }

    fn bill(&self) -> Refaulted {
        let mut meta = Meta {
            role: [("invalid".to_owned(), [8, 1])].into(),
            ..Meta::default()
        };
        meta.workload = Some(trace::WorkloadMeta::default());
        let subject = Subject {
            vm: VmId(0),
            recording: &meta,
            meta: None,
            span_ns: [0, 0],
        };
        let mut refaults = Refaults::new(&subject, Options::default());
        let mut replay = Replay::new(ReplayOptions {
            role: RoleLayout {
                invalid: [8, 1],
                ..RoleLayout::default()
            },
            from_birth: true,
            sees_every_change: true,
            ..ReplayOptions::default()
        });
        for record in &self.records {
            refaults.before(record, replay.vm(VmId(0)));
            replay.apply(record);
            refaults.after(record, replay.vm(VmId(0)));
        }
        refaults.finish(None, meta.sees()).unwrap();
        refaults.bill(&Gaps::default())
    }
}

proptest! {
    /// Every sum is what the naive bill says.
    #[test]
    fn the_bill_is_what_a_naive_one_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut naive = Naive::default();
        for (table, index, step) in steps {
            naive.step((table, index), step);
        }
        let bill = naive.bill();
        for cause in RefaultCause::ALL {
            let of = bill.cause(cause);
            let sums = of.map_or((0, 0, 0, 0), |of| {
                (of.refaults, of.entries_removed, of.entries_weakened, of.total_ns)
            });
            let sum = |of: &BTreeMap<_, u64>| of.get(&cause).copied().unwrap_or_default();
            let refaults = sum(&naive.refaults);
            let expected = (refaults, sum(&naive.removed), sum(&naive.weakened), refaults * 7);
            prop_assert_eq!(sums, expected, "{}", cause.name());
        }
        prop_assert_eq!(bill.totals.first, naive.first);
        prop_assert_eq!(bill.totals.strengthened, naive.strengthened);
        let listed: u32 = bill.acts.iter().map(|act| act.refaults).sum();
        prop_assert!(u64::from(listed) <= bill.totals.refaults);
    }
}
