//! Records that contradict each other are explained, or not; nothing panics.

use events::{
    Cause, Class, Gfn, Gpa, Gpte, Gva, HostEvent, Hpa, Level, PageEvent, Role, Seq, Spte, TimeNs,
    VcpuId, VmId,
};
use proptest::prelude::*;
use trace::{EntryRow, FaultRow, HostRow, PageRow, Record, RootRow, WriteRow};

use super::{
    Explanation, after,
    before::{Before, History, Lives},
    causes,
};
use crate::replay::{Replay, ReplayOptions, blank_fault};

/// Few tables, so that records meet; and any number at all.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0_u64..6, 0_u64..4).prop_map(|(table, index)| table << 12 | index << 3),
        1 => any::<u64>(),
    ]
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![8 => (1_u8..=5).prop_map(Level), 1 => any::<u8>().prop_map(Level)]
}

/// Links, leaves, empty ones, anything.
fn spte() -> impl Strategy<Value = Spte> {
    prop_oneof![
        (0_u64..6).prop_map(|table| Spte(table << 12 | 0x827)),
        (0_u64..6).prop_map(|frame| Spte(frame << 12 | 0xee7)),
        Just(Spte(0)),
        any::<u64>().prop_map(Spte),
    ]
}

fn any_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    (0..all.len()).prop_map(|index| all[index])
}

/// A record's kind and numbers; [`number`] gives it its place.
fn record() -> impl Strategy<Value = Record> {
    let entry = (
        address(),
        spte(),
        proptest::option::of(spte()),
        level(),
        any_of(&Cause::ALL),
    );
    let entry = entry.prop_map(|(place, spte, old, level, cause)| {
        Record::Entry(EntryRow {
            seq: Seq(0),
            time_ns: TimeNs(0),
            vm: VmId(0),
            vcpu: Some(VcpuId(0)),
            cause,
            sptep: Hpa(place),
            spte,
            old,
            level,
            gfn: Some(Gfn(place >> 12)),
        })
    });
    let page = (
        address(),
        any::<u32>(),
        level(),
        any_of(&PageEvent::ALL),
        0_u8..2,
        0_u8..2,
    );
    let page = page.prop_map(|(spt, role, level, event, direct, unsync)| {
        Record::Page(PageRow {
            seq: Seq(0),
            time_ns: TimeNs(0),
            vm: VmId(0),
            vcpu: (role % 2 == 0).then_some(VcpuId(0)),
            event,
            spt: Hpa(spt & !0xfff),
            gfn: Gfn(spt >> 12),
            role: Role(role),
            level,
            direct,
            unsync,
        })
    });
    let fault = (
        address(),
        address(),
        spte(),
        level(),
        any_of(&Class::ALL),
        any::<[u64; 3]>(),
    );
    let fault = fault.prop_map(|(gva, place, spte, level, class, gptes)| {
        Record::Fault(FaultRow {
            class,
            gva: Gva(gva),
            gpa: Some(Gpa(place)),
            cr3: Gpa(gva & !0xfff),
            root: Hpa(place & !0xfff),
            gpte3: Some(Gpte(gptes[2])),
            gpte2: Some(Gpte(gptes[1])),
            gpte1: Some(Gpte(gptes[0])),
            sptep: Some(Hpa(place)),
            spte: Some(spte),
            level: Some(level),
            ..blank_fault(Seq(0))
        })
    });
    let write = (address(), any::<u32>(), any::<u64>()).prop_map(|(gpa, bytes, value)| {
        Record::Write(WriteRow {
            seq: Seq(0),
            time_ns: TimeNs(0),
            vm: VmId(0),
            vcpu: VcpuId(0),
            gpa: Gpa(gpa),
            bytes,
            value,
        })
    });
    let host =
        (address(), any::<u64>(), any_of(&HostEvent::ALL)).prop_map(|(gfn, pages, event)| {
            Record::Host(HostRow {
                seq: Seq(0),
                time_ns: TimeNs(0),
                vm: VmId(0),
                vcpu: None,
                event,
                slot: None,
                gfn: Gfn(gfn),
                pages,
            })
        });
    let root = (address(), address(), level()).prop_map(|(cr3, root, level)| {
        Record::Root(RootRow {
            seq: Seq(0),
            time_ns: TimeNs(0),
            vm: VmId(0),
            vcpu: VcpuId(0),
            cr3: Gpa(cr3),
            root: Hpa(root),
            level,
            ..RootRow::default()
        })
    });
    prop_oneof![4 => entry, 3 => page, 3 => fault, 1 => write, 1 => host, 1 => root]
}

fn number(record: &mut Record, seq: u64, time: u64) {
    let (seq, time) = (Seq(seq), TimeNs(time));
    match record {
        Record::Fault(row) => (row.seq, row.time_ns) = (seq, time),
        Record::Entry(row) => (row.seq, row.time_ns) = (seq, time),
        Record::Page(row) => (row.seq, row.time_ns) = (seq, time),
        Record::Root(row) => (row.seq, row.time_ns) = (seq, time),
        Record::Write(row) => (row.seq, row.time_ns) = (seq, time),
        Record::Host(row) => (row.seq, row.time_ns) = (seq, time),
        Record::Act(row) => (row.seq, row.time_ns) = (seq, time),
        Record::Mark(_) | Record::Keyframe(_) | Record::Loss(_) => {}
    }
}

/// Up to 60 records of all kinds but keyframes, numbered from 0.
pub(crate) fn records() -> impl Strategy<Value = Vec<Record>> {
    let records = proptest::collection::vec((record(), any::<u64>()), 1..60);
    records.prop_map(|mut records| {
        for (seq, (record, time)) in (0_u64..).zip(&mut records) {
            number(record, seq, *time);
        }
        records.into_iter().map(|(record, _)| record).collect()
    })
}

proptest! {
    #[test]
    fn records_that_contradict_each_other_are_explained(
        records in records(),
    ) {
        let options = ReplayOptions::default();
        let mut replay = Replay::new(options);
        let mut history = History::default();
        for (at, record) in records.iter().enumerate() {
            let later = records.iter().skip(at + 1).cloned();
            let before = Before { replay: replay.vm(VmId(0)), history: &history };
            let explained = match record {
                Record::Entry(row) => {
                    let mut change = before.change(row);
                    after::change(&mut change, history.fault_count, later);
                    causes::of_change(&mut change);
                    Some(Explanation::Change(Box::new(change)))
                }
                Record::Fault(row) => {
                    let mut fault = before.fault(row, None, row.spte, Vec::new());
                    after::fault(&mut fault, (0, true), &history, later);
                    causes::of_fault(&mut fault);
                    Some(Explanation::Fault(Box::new(fault)))
                }
                record => before.record(record).map(|mut of| {
                    after::record(&mut of, history.fault_count, later);
                    Explanation::Record(Box::new(of))
                }),
            };
            if let Some(explained) = explained {
                check(&explained)?;
            }
            history.see(record, replay.vm(VmId(0)));
            replay.apply(record);
        }
        for table in 0..6 {
            let mut watched = Lives::new(Hpa(table << 12));
            let (mut replay, mut history) = (Replay::new(options), History::default());
            for record in &records {
                watched.feed(record, &mut replay, &mut history);
            }
            let (lives, total) = watched.done();
            prop_assert_eq!(lives.len() as u64, total);
            for mut life in lives {
                life.never_unsync = causes::never_unsync(&life);
                check(&Explanation::Page(Box::new(life)))?;
            }
        }
    }
}

fn check(explained: &Explanation) -> Result<(), TestCaseError> {
    prop_assert!(!explained.text(100).is_empty());
    let json = explained
        .json()
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert!(json.is_object());
    Ok(())
}
