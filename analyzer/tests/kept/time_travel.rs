//! The tables at a moment are the same from the nearest keyframe as from the first record.

use std::path::Path;

use analyzer::{
    replay::{CurrentRoot, Replay, ReplayOptions, ShadowPage, VmReplay},
    table::{Moment, Snapshot, snapshots, snapshots_from_the_start},
};
use events::{
    Cause, Class, ErrorCode, Gfn, Gpa, Gva, Hpa, Level, PageEvent, Role, Seq, Spte, TimeNs, VcpuId,
    VmId,
};
use proptest::prelude::*;
use trace::{
    Batch, EntryRow, FaultRow, KeyframeMark, KeyframePage, KeyframeRow, MarkRow, Meta, PageRow,
    Record, RootRow, SCHEMA_VERSION, Sees, Stores, Trace, TraceWriter,
};

use crate::support;

const VM: VmId = VmId(0);
const PRESENT: u64 = 1 << 11 | 1;
const WRITE: u64 = 1 << 1 | 1 << 10;

/// All that is shown of a moment.
fn said(snapshot: &Snapshot) -> String {
    let tables = snapshot.vm.tables();
    let pages: Vec<_> = tables
        .sorted_pages()
        .iter()
        .map(|page| {
            let entries: Vec<_> = page
                .entries()
                .filter(|(_, spte)| spte.is_shadow_present())
                .map(|(index, spte)| {
                    let leaf = spte.is_leaf(page.info.level);
                    (index, spte, page.leaf_gfn(index).filter(|_| leaf))
                })
                .collect();
            let mut parents = tables.parents(page.info.spt).to_vec();
            parents.sort();
            format!("{:?} {parents:?} {entries:?}\n", page.info)
        })
        .collect();
    let at = (snapshot.seq, snapshot.time, snapshot.missing);
    let roots = (snapshot.vm.roots(), snapshot.vm.table_roots());
    format!("{at:?} {:?} {roots:?} {}", tables.totals(), pages.concat())
}

/// Both ways; gives how many records the near one read.
fn same(trace: &Trace, moment: &Moment) -> u64 {
    let moments = std::slice::from_ref(moment);
    let near = snapshots(trace, VM, moments, &mut |_| {});
    let whole = snapshots_from_the_start(trace, VM, moments, &mut |_| {});
    match (near, whole) {
        (Ok(near), Ok(whole)) => {
            assert_eq!(said(&near[0]), said(&whole[0]), "{moment:?}");
            near[0].read
        }
        (Err(near), Err(whole)) => {
            assert_eq!(near.to_string(), whole.to_string(), "{moment:?}");
            0
        }
        (near, whole) => panic!("{moment:?}: {:?}, {:?}", near.err(), whole.err()),
    }
}

fn recording(name: &str) -> Trace {
    Trace::open(&support::recording(name)).expect("a recording")
}

fn every_moment(trace: &Trace) {
    let last = trace.segments().iter().map(|segment| segment.seq[1]).max();
    let last = last.expect("records");
    for seq in (0..=last).step_by(211) {
        same(trace, &Moment::Seq(seq));
    }
    let [start, end] = trace.span_ns().expect("records");
    for part in 0..=20 {
        same(trace, &Moment::Clock(start + (end - start) / 20 * part));
    }
    for fault in (0..trace.rows("faults")).step_by(307) {
        same(trace, &Moment::Fault(fault));
    }
    for name in ["start", "map", "touch", "check", "lunch"] {
        same(trace, &Moment::Phase(name.to_owned()));
    }
    same(trace, &Moment::End);
}

#[test]
fn a_recording_with_roots_in_its_keyframes_is_the_same_from_any_keyframe() {
    let trace = recording("roots");
    every_moment(&trace);
    let total = trace.records().count() as u64;
    let read = same(&trace, &Moment::End);
    assert!(read < total / 2, "{read} of {total} records read");
}

/// Recorded by version 0.1: its keyframes have no roots.
#[test]
fn a_recording_without_roots_in_its_keyframes_is_read_from_the_start() {
    let trace = recording("lab");
    every_moment(&trace);
    let total = trace.records().count() as u64;
    assert_eq!(same(&trace, &Moment::End), total);
}

/// One record, with few enough values that they meet.
type Step = (u8, u64, u16, u64, u8);

/// A made-up recording: the records in order, keyframes among them.
struct Tape {
    replay: Replay,
    rows: Vec<Row>,
    keyframes: u32,
}

impl Default for Tape {
    fn default() -> Self {
        Self {
            replay: Replay::new(ReplayOptions {
                keyframe_roots: true,
                ..ReplayOptions::default()
            }),
            rows: Vec::new(),
            keyframes: 0,
        }
    }
}

#[derive(Clone)]
enum Row {
    Fault(Box<FaultRow>),
    Entry(EntryRow),
    Page(PageRow),
    Root(RootRow),
    Mark(MarkRow),
    Keyframe(KeyframePage),
}

impl Tape {
    fn seq(&self) -> Seq {
        Seq(self.rows.len() as u64)
    }

    fn time(&self) -> TimeNs {
        TimeNs(1000 + 10 * self.rows.len() as u64)
    }

    fn push(&mut self, row: Row) {
        let record = match row.clone() {
            Row::Fault(row) => Record::Fault(*row),
            Row::Entry(row) => Record::Entry(row),
            Row::Page(row) => Record::Page(row),
            Row::Root(row) => Record::Root(row),
            Row::Mark(row) => Record::Mark(row),
            Row::Keyframe(page) => Record::Keyframe(page),
        };
        self.replay.apply(&record);
        self.rows.push(row);
    }

    fn step(&mut self, (kind, page, index, gfn, small): Step) {
        let (seq, time_ns) = (self.seq(), self.time());
        let sptep = Hpa((page << 12) + 8 * u64::from(index));
        let write = if small & 1 == 0 { WRITE } else { 0 };
        let leaf = Spte(PRESENT | (gfn + 0x1000) << 12 | write);
        // Pages 1 to 3 are of level 1, the others above them.
        let level = Level(page as u8 / 3 + 1);
        match kind % 8 {
            0 | 1 => {
                let event = [
                    PageEvent::Born,
                    PageEvent::Unsync,
                    PageEvent::Sync,
                    PageEvent::Zapped,
                ][usize::from(small) % 4];
                self.push(Row::Page(PageRow {
                    seq,
                    time_ns,
                    vm: VM,
                    vcpu: None,
                    event,
                    spt: Hpa(page << 12),
                    gfn: Gfn(gfn),
                    role: Role(u32::from(level.0)),
                    level,
                    direct: u8::from(small > 200),
                    unsync: 0,
                }));
            }
            2..=4 => self.push(Row::Fault(Box::new(fault(
                seq, time_ns, sptep, leaf, gfn, level,
            )))),
            5 => {
                let link = Spte(PRESENT | WRITE | (u64::from(small) % 4) << 12);
                let value = [leaf, link, Spte(0)][usize::from(small) % 3];
                self.push(Row::Entry(EntryRow {
                    seq,
                    time_ns,
                    vm: VM,
                    vcpu: None,
                    cause: Cause::Other,
                    sptep,
                    spte: value,
                    old: None,
                    level,
                    gfn: Some(Gfn(gfn)),
                }));
            }
            6 => self.push(Row::Root(RootRow {
                seq,
                time_ns,
                vm: VM,
                vcpu: VcpuId(u16::from(small) % 2),
                cr3: Gpa(gfn << 12),
                root: Hpa(page << 12),
                level: Level(3 + (small >> 1) % 2),
                ..RootRow::default()
            })),
            _ => self.keyframe(small),
        }
    }

    /// The tables and roots as they are now. Now and then KVM has dropped the root of a vCPU.
    fn keyframe(&mut self, small: u8) {
        let number = self.keyframes;
        self.keyframes += 1;
        let copies: Vec<KeyframePage> = self.replay.vm(VM).map(copies).unwrap_or_default();
        let pages = copies.len() as u32;
        for copy in copies {
            let (seq, time_ns) = (self.seq(), self.time());
            self.push(Row::Keyframe(KeyframePage {
                seq,
                time_ns,
                keyframe: number,
                ..copy
            }));
        }
        let mut roots: Vec<RootRow> = self.replay.vm(VM).map(roots).unwrap_or_default();
        if small.is_multiple_of(5) {
            roots.pop();
        }
        for root in roots {
            let (seq, time_ns) = (self.seq(), self.time());
            self.push(Row::Root(RootRow {
                seq,
                time_ns,
                keyframe: Some(number),
                ..root
            }));
        }
        let mark = KeyframeMark {
            number,
            pages,
            stopped_ns: None,
        };
        let mark = MarkRow::of_keyframe(self.seq(), self.time(), VM, mark);
        self.push(Row::Mark(mark));
    }

    /// Written in stretches of `length` rows; switches of the second vCPU may come a stretch late, in
    /// their order, as from a thread that was preempted before it wrote them.
    fn write(&self, path: &Path, length: usize, late: bool) {
        let meta = Meta {
            schema: SCHEMA_VERSION,
            sees: Some(Sees {
                every_change: false,
                stores: Stores::ToTables,
                from_birth: false,
                emulated: false,
                keyframe_roots: true,
                acts: false,
            }),
            ..Meta::default()
        };
        let mut writer = TraceWriter::create(path, &meta).expect("a trace");
        let mut delayed = Vec::new();
        for stretch in self.rows.chunks(length) {
            let mut batch = Batch::default();
            std::mem::take(&mut delayed)
                .into_iter()
                .for_each(|row| add(&mut batch, row));
            for row in stretch {
                let second = matches!(row, Row::Root(row) if row.vcpu == VcpuId(1) && row.keyframe.is_none());
                if late && second {
                    delayed.push(row.clone());
                } else {
                    add(&mut batch, row.clone());
                }
            }
            writer.write(&batch).expect("written");
        }
        let mut batch = Batch::default();
        delayed.into_iter().for_each(|row| add(&mut batch, row));
        writer.write(&batch).expect("written");
    }
}

fn copies(vm: &VmReplay) -> Vec<KeyframePage> {
    let pages = vm.tables().sorted_pages();
    let copy = |page: &&ShadowPage| KeyframePage {
        seq: Seq(0),
        time_ns: TimeNs(0),
        vm: VM,
        keyframe: 0,
        spt: page.info.spt,
        gfn: page.info.gfn,
        role: page.info.role,
        level: page.info.level,
        direct: page.info.direct,
        unsync: page.info.unsync,
        root_count: 0,
        entries: page.entries().collect(),
        gfns: page
            .entries()
            .filter(|(_, spte)| spte.is_leaf(page.info.level) && !page.info.direct)
            .filter_map(|(index, _)| Some((index, page.leaf_gfn(index)?)))
            .collect(),
    };
    pages.iter().map(copy).collect()
}

fn roots(vm: &VmReplay) -> Vec<RootRow> {
    let root = |(vcpu, current): (&VcpuId, &CurrentRoot)| {
        let level = current.level.unwrap_or(Level(4));
        let pdptes = vm.pdptes(current.root).filter(|_| level == Level(3));
        let pdpte = |index: usize| {
            let table = |table: Option<Hpa>| Spte(table.map_or(0, |table| table.0 | 1));
            pdptes.map(|pdptes| table(pdptes[index]))
        };
        RootRow {
            vcpu: *vcpu,
            cr3: current.cr3,
            root: current.root,
            level,
            pdpte0: pdpte(0),
            pdpte1: pdpte(1),
            pdpte2: pdpte(2),
            pdpte3: pdpte(3),
            ..RootRow::default()
        }
    };
    vm.roots().iter().map(root).collect()
}

fn add(batch: &mut Batch, row: Row) {
    match row {
        Row::Fault(row) => batch.faults.push(*row),
        Row::Entry(row) => batch.entries.push(row),
        Row::Page(row) => batch.pages.push(row),
        Row::Root(row) => batch.roots.push(row),
        Row::Mark(row) => batch.marks.push(row),
        Row::Keyframe(page) => {
            let row = |index: Option<u16>, spte: Option<Spte>, leaf_gfn| KeyframeRow {
                seq: page.seq,
                time_ns: page.time_ns,
                vm: page.vm,
                vcpu: None,
                keyframe: page.keyframe,
                spt: page.spt,
                index,
                spte,
                gfn: page.gfn,
                role: page.role,
                level: page.level,
                direct: u8::from(page.direct),
                unsync: u8::from(page.unsync),
                root_count: page.root_count,
                leaf_gfn,
            };
            batch.keyframes.push(row(None, None, None));
            for (index, spte) in &page.entries {
                let known = page.gfns.iter().find(|(other, _)| other == index);
                let gfn = known.map(|(_, gfn)| *gfn);
                batch.keyframes.push(row(Some(*index), Some(*spte), gfn));
            }
        }
    }
}

fn fault(seq: Seq, time_ns: TimeNs, sptep: Hpa, spte: Spte, gfn: u64, level: Level) -> FaultRow {
    FaultRow {
        seq,
        time_ns,
        vm: VM,
        vcpu: VcpuId(0),
        class: Class::Shadow,
        gva: Gva(gfn << 12),
        error_code: ErrorCode::NONE,
        cr3: Gpa(0x1000),
        root: Hpa(0x7000),
        rip: None,
        gpte5: None,
        gpte4: None,
        gpte3: None,
        gpte2: None,
        gpte1: None,
        gpa: Some(Gpa(gfn << 12)),
        slot: None,
        hva: None,
        pfn: None,
        sptep: Some(sptep),
        spte: Some(spte),
        level: Some(level),
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_made_up_trace_is_the_same_from_any_keyframe(
        steps in prop::collection::vec((0..8_u8, 1..8_u64, 0..3_u16, 0..6_u64, any::<u8>()), 1..60),
        length in 1..30_usize,
        late in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.trace");
        let mut tape = Tape::default();
        steps.into_iter().for_each(|step| tape.step(step));
        tape.write(&path, length, late);
        let trace = Trace::open(&path).expect("a trace");
        for seq in (0..tape.rows.len() as u64).step_by(5) {
            same(&trace, &Moment::Seq(seq));
            same(&trace, &Moment::Clock(1000 + 10 * seq));
        }
        for fault in (0..=trace.rows("faults")).step_by(3) {
            same(&trace, &Moment::Fault(fault));
        }
        same(&trace, &Moment::End);
    }
}
