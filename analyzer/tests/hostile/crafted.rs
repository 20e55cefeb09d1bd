//! Traces that are small on disk and ask for much work: each multiplies two things that a real
//! trace has few of.

use events::{
    Cause, Class, ErrorCode, Gfn, Gpa, Gva, HostEvent, Hpa, Level, PageEvent, Role, Seq, Spte,
    TimeNs, VcpuId, VmId,
};
use trace::{
    Batch, End, EntryRow, FaultRow, HostRow, KeyframeMark, KeyframeRow, MarkRow, Memslot, Meta,
    PageRow, RootRow, Sees, Stores, TraceWriter, VmMeta, WriteRow,
};

use super::damage::Damaged;

/// A present link, and a present writable leaf.
const LINK: u64 = 0x827;
const LEAF: u64 = 0xe67 | 1 << 11;

/// Rows in one stretch.
const STRETCH: u64 = 50_000;

/// Makes the records of a trace, one after another.
struct Tape {
    meta: Meta,
    batches: Vec<Batch>,
    seq: u64,
    vm: VmId,
    vcpu: VcpuId,
}

impl Tape {
    fn new(every_change: bool) -> Self {
        let role = [("level", [0, 4]), ("direct", [8, 1]), ("invalid", [12, 1])];
        Self {
            meta: Meta {
                schema: trace::SCHEMA_VERSION,
                role: role.map(|(name, place)| (name.to_owned(), place)).into(),
                sees: Some(Sees {
                    every_change,
                    stores: Stores::All,
                    from_birth: true,
                    emulated: false,
                    acts: false,
                    keyframe_roots: false,
                }),
                vms: vec![VmMeta::default()],
                ..Meta::default()
            },
            batches: vec![Batch::default()],
            seq: 0,
            vm: VmId(0),
            vcpu: VcpuId(0),
        }
    }

    /// The next number and its time, and where its row goes.
    fn next(&mut self) -> (Seq, TimeNs, &mut Batch) {
        let seq = self.seq;
        self.seq += 1;
        if seq > 0 && seq.is_multiple_of(STRETCH) {
            self.batches.push(Batch::default());
        }
        let batch = self.batches.last_mut().unwrap();
        (Seq(seq), TimeNs(1_000_000 + seq * 1_000), batch)
    }

    fn page(&mut self, event: PageEvent, spt: u64, level: u8, gfn: u64) {
        let (vm, vcpu) = (self.vm, Some(self.vcpu));
        let (seq, time_ns, batch) = self.next();
        batch.pages.push(PageRow {
            seq,
            time_ns,
            vm,
            vcpu,
            event,
            spt: Hpa(spt),
            gfn: Gfn(gfn),
            role: Role(level.into()),
            level: Level(level),
            direct: 0,
            unsync: 0,
        });
    }

    fn born(&mut self, spt: u64, level: u8, gfn: u64) {
        self.page(PageEvent::Born, spt, level, gfn);
    }

    fn entry(&mut self, cause: Cause, place: u64, level: u8, spte: u64, gfn: Option<u64>) {
        let (vm, vcpu) = (self.vm, Some(self.vcpu));
        let (seq, time_ns, batch) = self.next();
        batch.entries.push(EntryRow {
            seq,
            time_ns,
            vm,
            vcpu,
            cause,
            sptep: Hpa(place),
            spte: Spte(spte),
            old: None,
            level: Level(level),
            gfn: gfn.map(Gfn),
        });
    }

    /// All 512 entries of a table point to another.
    fn links(&mut self, table: u64, level: u8, child: u64) {
        for index in 0..512 {
            self.entry(Cause::Link, table + 8 * index, level, child | LINK, None);
        }
    }

    fn leaf(&mut self, place: u64, gfn: u64) {
        let spte = (0x10_0000 + gfn) << 12 | LEAF;
        self.entry(Cause::Prefetch, place, 1, spte, Some(gfn));
    }

    fn root(&mut self, root: u64, cr3: u64, level: u8) {
        let (vm, vcpu) = (self.vm, self.vcpu);
        let (seq, time_ns, batch) = self.next();
        batch.roots.push(RootRow {
            seq,
            time_ns,
            vm,
            vcpu,
            cr3: Gpa(cr3),
            root: Hpa(root),
            level: Level(level),
            ..RootRow::default()
        });
    }

    fn fault(&mut self, class: Class, root: u64, gva: u64, leaf: Option<(u64, u64)>) {
        let (vm, vcpu) = (self.vm, self.vcpu);
        let (seq, time_ns, batch) = self.next();
        batch.faults.push(FaultRow {
            seq,
            time_ns,
            vm,
            vcpu,
            class,
            gva: Gva(gva),
            error_code: ErrorCode(6),
            cr3: Gpa(root),
            root: Hpa(root),
            rip: Some(Gva(gva ^ 0x1234_5000)),
            gpte5: None,
            gpte4: None,
            gpte3: None,
            gpte2: None,
            gpte1: None,
            gpa: leaf.map(|(_, gfn)| Gpa(gfn << 12)),
            slot: None,
            errno: None,
            hva: None,
            pfn: None,
            sptep: leaf.map(|(place, _)| Hpa(place)),
            spte: leaf.map(|(_, gfn)| Spte((0x10_0000 + gfn) << 12 | LEAF)),
            level: leaf.map(|_| Level(1)),
            created: 0,
            reused: 0,
            zapped: 0,
            total_ns: 700,
            exit_ns: None,
            walk_ns: Some(100),
            pfn_ns: None,
            hva_ns: None,
            tables_ns: None,
            pfn_tables_ns: None,
            write_ns: Some(200),
            inject_ns: None,
            emulate_ns: None,
            entry_ns: None,
        });
    }

    fn host(&mut self, event: HostEvent, gfn: u64, pages: u64) {
        let vm = self.vm;
        let (seq, time_ns, batch) = self.next();
        batch.host.push(HostRow {
            seq,
            time_ns,
            vm,
            vcpu: None,
            event,
            slot: None,
            gfn: Gfn(gfn),
            pages,
        });
    }

    fn store(&mut self, gpa: u64) {
        let (vm, vcpu) = (self.vm, self.vcpu);
        let (seq, time_ns, batch) = self.next();
        batch.writes.push(WriteRow {
            seq,
            time_ns,
            vm,
            vcpu,
            gpa: Gpa(gpa),
            bytes: 8,
            value: 0,
        });
    }

    fn mark(&mut self, name: &str) {
        let vm = self.vm;
        let (seq, time_ns, batch) = self.next();
        batch.marks.push(MarkRow {
            seq,
            time_ns,
            vm,
            vcpu: None,
            name: name.to_owned(),
            guest_tsc: None,
            keyframe: None,
            pages: None,
        });
    }

    /// A keyframe of one page, which says that it has `pages`.
    fn keyframe(&mut self, number: u32, spt: u64, pages: u32) {
        let vm = self.vm;
        let (seq, time_ns, batch) = self.next();
        batch.keyframes.push(KeyframeRow {
            seq,
            time_ns,
            vm,
            vcpu: None,
            keyframe: number,
            spt: Hpa(spt),
            index: None,
            spte: None,
            gfn: Gfn(1),
            role: Role(1),
            level: Level(1),
            direct: 0,
            unsync: 0,
            root_count: 0,
            leaf_gfn: None,
        });
        let (seq, time_ns, batch) = self.next();
        let mark = KeyframeMark { number, pages };
        batch
            .marks
            .push(MarkRow::of_keyframe(seq, time_ns, vm, mark));
    }

    fn write(mut self) -> Damaged {
        let folder = Damaged::new();
        let mut writer = TraceWriter::create(&folder.path(), &self.meta).unwrap();
        for batch in &self.batches {
            writer.write(batch).unwrap();
        }
        self.meta.complete = true;
        self.meta.end = Some(End {
            time_ns: 1_000_000 + self.seq * 1_000,
            reason: "done".to_owned(),
            records: self.seq,
            segments: writer.segments(),
            rows: writer.rows(),
            programs: Vec::new(),
        });
        writer.meta_file().write(&self.meta).unwrap();
        folder
    }
}

/// How much of each there is.
pub type Size = u64;
/// Makes a trace.
pub type Craft = fn(Size) -> Damaged;

/// Every trace with its name.
pub const ALL: [(&str, Craft); 20] = [
    ("VMs that no record names", vms_without_records),
    ("a VM for each record", a_vm_for_each_record),
    ("tables that share all tables below", shared_tables),
    ("a table that links to itself", a_table_in_itself),
    ("many roots of the same tables", many_roots),
    ("a vCPU for each record", many_vcpus),
    ("a phase for each fault", many_phases),
    ("a process for each fault", many_processes),
    ("a frame of very many leaves", a_frame_of_many_leaves),
    ("a table of very many parents", a_table_of_many_parents),
    ("a guest table of very many shadows", many_shadows),
    ("ranges that are read again and again", many_rereads),
    ("ranges that are discarded again and again", many_unmaps),
    ("keyframes that are never whole", keyframes_not_whole),
    ("keyframes of no pages", empty_keyframes),
    ("numbers that go backwards", backwards),
    (
        "gaps that are closed late, from the first on",
        gaps_closed_late,
    ),
    ("faults in one of very many memslots", many_memslots),
    ("a page for each leaf", a_page_for_each_leaf),
    ("a page made and zapped again and again", a_page_reborn),
];

fn vms_without_records(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    tape.meta.vms = (0..=u16::MAX)
        .map(|vm| VmMeta {
            vm,
            ..VmMeta::default()
        })
        .collect();
    tape.fault(Class::Guest, 0, 0x1000, None);
    tape.write()
}

fn a_vm_for_each_record(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for vm in 0..=u16::MAX {
        tape.vm = VmId(vm);
        tape.fault(Class::Shadow, 0x1000, 0x1000, Some((0x2008, 7)));
    }
    tape.write()
}

/// 512 ways at each of four levels: 2^36 leaves.
fn shared_tables(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let table = |level: u64| 0x10_0000 + (level << 12);
    for level in (1..=4_u8).rev() {
        tape.born(table(level.into()), level, level.into());
    }
    tape.root(table(4), 0x4000, 4);
    for level in (2..=4_u8).rev() {
        tape.links(table(level.into()), level, table(u64::from(level) - 1));
    }
    for index in 0..512 {
        tape.leaf(table(1) + 8 * index, 0x400);
    }
    for page in 0..100 {
        let gva = page << 21;
        tape.fault(Class::Shadow, table(4), gva, Some((table(1), 0x400)));
    }
    tape.page(PageEvent::Zapped, table(1), 1, 1);
    tape.write()
}

fn a_table_in_itself(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for (spt, level) in [
        (0x10_0000, 5),
        (0x10_1000, 2),
        (0x10_2000, 0),
        (0x10_3000, 255),
    ] {
        tape.born(spt, level, 1);
        tape.root(spt, 0x4000, level);
        tape.links(spt, level, spt);
        tape.fault(Class::Shadow, spt, 0x8000_0000, Some((spt, 0x400)));
        tape.links(spt, level, spt);
    }
    tape.write()
}

fn many_roots(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let table = |level: u64| 0x10_0000 + (level << 12);
    for level in (1..=3_u8).rev() {
        tape.born(table(level.into()), level, level.into());
    }
    for level in [3, 2] {
        tape.links(table(level), level as u8, table(level - 1));
    }
    for index in 0..512 {
        tape.leaf(table(1) + 8 * index, 0x400);
    }
    for number in 0..size {
        let root = 0x1000_0000 + (number << 12);
        tape.born(root, 4, number);
        tape.root(root, number << 12, 4);
        tape.entry(Cause::Link, root, 4, table(3) | LINK, None);
        tape.fault(Class::Shadow, root, 0x1000, Some((table(1) + 8, 0x400)));
    }
    tape.write()
}

fn many_vcpus(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    tape.born(0x1000, 4, 1);
    for vcpu in 0..=u16::MAX {
        tape.vcpu = VcpuId(vcpu);
        tape.root(0x1000, 0x4000, 4);
        tape.fault(Class::Retried, 0x1000, 0x1000, None);
    }
    tape.write()
}

fn many_phases(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for number in 0..size * 4 {
        tape.mark(&format!("phase {number}"));
        let class = Class::ALL[number as usize % Class::ALL.len()];
        tape.fault(class, 0x1000, number << 12, None);
    }
    tape.write()
}

fn many_processes(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for number in 0..size * 4 {
        let root = number << 12;
        tape.fault(Class::Guest, root, number << 30, None);
    }
    tape.write()
}

/// KVM keeps a thousand; where each change has its record, replay counts on those of KVM.
fn a_frame_of_many_leaves(size: Size) -> Damaged {
    let mut tape = Tape::new(true);
    for table in 0..size / 256 {
        let spt = 0x1000_0000 + (table << 12);
        tape.born(spt, 1, 0x10_0000 + table);
        for index in 0..512 {
            tape.leaf(spt + 8 * index, 0x400);
        }
    }
    for _ in 0..size {
        // Makes KVM take write access from every leaf.
        tape.born(0x1000, 1, 0x400);
        tape.page(PageEvent::Sync, 0x1000, 1, 0x400);
        tape.store(0x40_0008);
    }
    for table in (0..size / 256).rev() {
        for index in 0..512 {
            let place = 0x1000_0000 + (table << 12) + 8 * (511 - index);
            tape.entry(Cause::HostUnmap, place, 1, 0, None);
        }
    }
    tape.write()
}

fn a_table_of_many_parents(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    tape.born(0x1000, 1, 1);
    for table in 0..size / 16 {
        let spt = 0x1000_0000 + (table << 12);
        tape.born(spt, 2, 0x10_0000 + table);
        tape.links(spt, 2, 0x1000);
    }
    for fault in 0..size {
        tape.fault(
            Class::Shadow,
            0x1000_0000,
            fault << 21,
            Some((0x1008, 0x400)),
        );
    }
    // From the first on.
    for table in 0..size / 16 {
        let spt = 0x1000_0000 + (table << 12);
        for index in 0..512 {
            tape.entry(Cause::GuestWrite, spt + 8 * index, 2, 0, None);
        }
    }
    tape.write()
}

fn many_shadows(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for page in 0..size {
        tape.born(0x1000_0000 + (page << 12), 1, 0x400);
    }
    for page in 0..size {
        tape.store(0x40_0000);
        let gva = 0x40_0000;
        tape.fault(Class::WriteProtected, 0x1000_0000 + (page << 12), gva, None);
        tape.page(PageEvent::Unsync, 0x1000_0000 + (page << 12), 1, 0x400);
    }
    for page in 0..size {
        tape.page(PageEvent::Zapped, 0x1000_0000 + (page << 12), 1, 0x400);
    }
    tape.write()
}

fn leaves(tape: &mut Tape, number: u64) {
    for table in 0..number / 512 {
        let spt = 0x1000_0000 + (table << 12);
        tape.born(spt, 1, 0x10_0000 + table);
        for index in 0..512 {
            tape.leaf(spt + 8 * index, 0x1000 + table * 512 + index);
        }
    }
}

fn many_rereads(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    leaves(&mut tape, size * 2);
    for number in 0..size {
        tape.host(HostEvent::Reread, number % 16, u64::MAX);
    }
    for number in 0..size {
        tape.host(HostEvent::Reread, number % 16, 1 << 20);
        tape.host(HostEvent::Settled, 0, 0);
    }
    tape.write()
}

fn many_unmaps(size: Size) -> Damaged {
    let mut tape = Tape::new(true);
    leaves(&mut tape, size * 2);
    let events = [
        HostEvent::Unmap,
        HostEvent::DirtyStart,
        HostEvent::ZapRange,
        HostEvent::FlushSlot,
    ];
    for number in 0..size * 2 {
        let event = events[number as usize % events.len()];
        tape.host(
            event,
            number % 16,
            [u64::MAX, 1 << 30][number as usize / 4 % 2],
        );
    }
    tape.write()
}

fn keyframes_not_whole(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    leaves(&mut tape, size * 2);
    for number in 0..size as u32 {
        tape.keyframe(number, 0x1000_0000, 2);
    }
    tape.write()
}

fn empty_keyframes(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    leaves(&mut tape, size * 2);
    for number in 0..size as u32 {
        tape.keyframe(number, 0x1000_0000, 1);
        tape.leaf(0x1000_0000, 0x1000);
    }
    tape.write()
}

/// Each stretch has lower numbers than the one before, with a hole after each.
fn backwards(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let rows = 500;
    let stretches = size * 8 / rows;
    tape.batches.clear();
    for stretch in (0..stretches).rev() {
        tape.batches.push(Batch::default());
        for row in 0..rows {
            tape.seq = 0;
            tape.fault(Class::Guest, 0x1000, 0x1000, None);
            let batch = tape.batches.last_mut().unwrap();
            batch.faults.last_mut().unwrap().seq = Seq(2 * (stretch * rows + row));
        }
    }
    tape.seq = size * 16;
    tape.write()
}

/// The odd numbers come after all even ones: as many gaps as a study keeps.
fn gaps_closed_late(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let gaps = size * 32;
    for late in [0, 1] {
        tape.batches.push(Batch::default());
        for number in 0..gaps {
            tape.seq = 2 * number + late;
            let (seq, time_ns) = (Seq(tape.seq), TimeNs(1_000_000 + tape.seq * 1_000));
            tape.seq = 1;
            tape.fault(Class::Guest, 0x1000, 0x1000, None);
            let row = tape.batches.last_mut().unwrap().faults.last_mut().unwrap();
            (row.seq, row.time_ns) = (seq, time_ns);
        }
    }
    tape.seq = 2 * gaps;
    tape.write()
}

/// KVM emulates a store to a guest table before it needs the memslot: its fault names none.
fn many_memslots(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let slots = (size * 2).min(u16::MAX.into());
    tape.meta.vms[0].memslots = (0..slots)
        .map(|slot| Memslot {
            slot: slot as u16,
            gpa: (slot / 2) << 12,
            bytes: 1 << 40,
            hva: 0x7000_0000_0000,
            from_ns: slot,
            until_ns: None,
        })
        .collect();
    for fault in 0..size * 32 {
        let gpa = (fault % slots) << 12;
        tape.fault(Class::WriteProtected, 0x1000, gpa, None);
        let row = tape.batches.last_mut().unwrap().faults.last_mut().unwrap();
        row.gpa = Some(Gpa(gpa));
    }
    tape.write()
}

/// KVM makes a table of 4 KiB for it.
fn a_page_for_each_leaf(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for page in 0..size * 64 {
        let spt = 0x1000_0000 + (page << 12);
        tape.born(spt, 1, 0x10_0000 + page);
        tape.leaf(spt + 8 * (page % 512), 0x1000 + page);
    }
    tape.write()
}

fn a_page_reborn(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for number in 0..size * 2 {
        tape.born(0x1000, 4, number % 64);
        tape.root(0x1000, 0x4000, 4);
        tape.entry(Cause::Link, 0x1000, 4, 0x1000 | LINK, None);
        if number % 2 == 0 {
            tape.page(PageEvent::Zapped, 0x1000, 4, number % 64);
        }
    }
    tape.write()
}
