//! Single records for tests: a blank one, and any at all.

use events::{
    Cause, Class, ErrorCode, Gfn, Gpa, Gva, HostEvent, Hpa, Level, PageEvent, Role, Seq, Spte,
    TimeNs, VcpuId, VmId,
};
use trace::{
    EntryRow, FaultRow, HostRow, KeyframeMark, KeyframePage, MarkRow, PageRow, Record, RootRow,
};

/// A fault that says nothing.
pub(crate) fn blank_fault(seq: Seq) -> FaultRow {
    FaultRow {
        seq,
        time_ns: TimeNs(seq.0),
        vm: VmId(0),
        vcpu: VcpuId(0),
        class: Class::Shadow,
        gva: Gva(0),
        error_code: ErrorCode::NONE,
        cr3: Gpa(0),
        root: Hpa(0),
        rip: None,
        gpte5: None,
        gpte4: None,
        gpte3: None,
        gpte2: None,
        gpte1: None,
        gpa: None,
        slot: None,
        hva: None,
        pfn: None,
        sptep: None,
        spte: None,
        level: None,
        created: 0,
        reused: 0,
        zapped: 0,
        total_ns: 1,
        exit_ns: None,
        walk_ns: None,
        pfn_ns: None,
        hva_ns: None,
        tables_ns: None,
        pfn_tables_ns: None,
        write_ns: None,
        inject_ns: None,
        emulate_ns: None,
        entry_ns: None,
        errno: None,
        switches: None,
    }
}

/// A record with any numbers in it.
pub(crate) fn any_record(kind: u8, a: u64, b: u64, c: u64, small: u8, flag: bool) -> Record {
    // Half of the places are near each other, so that strange records meet.
    let near = |word: u64| if flag { word & 0x3ff8 } else { word };
    let (seq, vm) = (Seq(c), VmId(0));
    match kind % 7 {
        0 => Record::Fault(FaultRow {
            sptep: Some(Hpa(near(a))),
            spte: Some(Spte(near(b) | u64::from(flag) << 11)),
            gpa: Some(Gpa(c)),
            level: Some(Level(small)),
            ..blank_fault(seq)
        }),
        1 => Record::Entry(EntryRow {
            seq,
            time_ns: TimeNs(a),
            vm,
            vcpu: None,
            cause: Cause::Link,
            sptep: Hpa(near(a)),
            spte: Spte(near(b) | u64::from(small & 1) << 11),
            old: flag.then_some(Spte(near(c))),
            level: Level(if flag { small % 6 } else { small }),
            gfn: flag.then_some(Gfn(b)),
        }),
        2 => Record::Page(PageRow {
            seq,
            time_ns: TimeNs(b),
            vm,
            vcpu: None,
            event: PageEvent::from_raw(small % 6).unwrap_or(PageEvent::Born),
            spt: Hpa(near(a) & !0xfff),
            gfn: Gfn(b),
            role: Role(c as u32),
            level: Level(if flag { small % 6 } else { small }),
            direct: small & 1,
            unsync: small & 2,
        }),
        3 => Record::Keyframe(KeyframePage {
            seq,
            time_ns: TimeNs(a),
            vm,
            keyframe: u32::from(small & 1),
            spt: Hpa(near(a) & !0xfff),
            gfn: Gfn(b),
            role: Role(0),
            level: Level(small % 7),
            direct: flag,
            unsync: !flag,
            root_count: 0,
            entries: vec![(a as u16, Spte(b)), (small.into(), Spte(near(c) | 1 << 11))],
            gfns: vec![(b as u16, Gfn(c)), (small.into(), Gfn(a))],
        }),
        4 => Record::Root(RootRow {
            seq,
            time_ns: TimeNs(b),
            vm,
            vcpu: VcpuId(c as u16 & 3),
            cr3: Gpa(c),
            root: Hpa(near(a)),
            level: Level(small % 6),
            keyframe: flag.then_some(u32::from(small & 1)),
            pdpte0: (small & 2 == 0).then_some(Spte(near(b))),
            pdpte1: Some(Spte(a)),
            pdpte2: Some(Spte(0)),
            pdpte3: Some(Spte(1)),
        }),
        5 => Record::Host(HostRow {
            seq,
            time_ns: TimeNs(b),
            vm,
            vcpu: None,
            // Mostly those that open and close a range.
            event: HostEvent::ALL[if small & 1 == 0 {
                5
            } else {
                usize::from(small) % 7
            }],
            slot: None,
            gfn: Gfn(if flag { a & 7 } else { a }),
            pages: if flag { b & 7 } else { b },
        }),
        _ => {
            let mark = KeyframeMark {
                number: u32::from(small & 1),
                pages: u32::from(small & 3),
                stopped_ns: None,
            };
            Record::Mark(MarkRow::of_keyframe(seq, TimeNs(b), vm, mark))
        }
    }
}
