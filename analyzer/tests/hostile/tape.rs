//! The records of a crafted trace, one after another.

use events::{
    Cause, Class, ErrorCode, Gfn, Gpa, Gva, HostEvent, Hpa, Level, PageEvent, Role, Seq, Spte,
    TimeNs, VcpuId, VmId,
};
use trace::{
    Batch, End, EntryRow, FaultRow, HostRow, KeyframeMark, KeyframeRow, MarkRow, Meta, PageRow,
    RootRow, Sees, Stores, TraceWriter, VmMeta, WriteRow,
};

use super::damage::Damaged;

/// A present link, and a present writable leaf.
pub const LINK: u64 = 0x827;
pub const LEAF: u64 = 0xe67 | 1 << 11;

/// Rows in one stretch.
const STRETCH: u64 = 50_000;

/// Makes the records of a trace, one after another.
pub(super) struct Tape {
    pub meta: Meta,
    pub batches: Vec<Batch>,
    pub seq: u64,
    pub vm: VmId,
    pub vcpu: VcpuId,
}

impl Tape {
    pub fn new(every_change: bool) -> Self {
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
    pub fn next(&mut self) -> (Seq, TimeNs, &mut Batch) {
        let seq = self.seq;
        self.seq += 1;
        if seq > 0 && seq.is_multiple_of(STRETCH) {
            self.batches.push(Batch::default());
        }
        let batch = self.batches.last_mut().unwrap();
        (Seq(seq), TimeNs(1_000_000 + seq * 1_000), batch)
    }

    pub fn page(&mut self, event: PageEvent, spt: u64, level: u8, gfn: u64) {
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

    pub fn born(&mut self, spt: u64, level: u8, gfn: u64) {
        self.page(PageEvent::Born, spt, level, gfn);
    }

    pub fn entry(&mut self, cause: Cause, place: u64, level: u8, spte: u64, gfn: Option<u64>) {
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
    pub fn links(&mut self, table: u64, level: u8, child: u64) {
        for index in 0..512 {
            self.entry(Cause::Link, table + 8 * index, level, child | LINK, None);
        }
    }

    pub fn leaf(&mut self, place: u64, gfn: u64) {
        let spte = (0x10_0000 + gfn) << 12 | LEAF;
        self.entry(Cause::Prefetch, place, 1, spte, Some(gfn));
    }

    pub fn root(&mut self, root: u64, cr3: u64, level: u8) {
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

    pub fn fault(&mut self, class: Class, root: u64, gva: u64, leaf: Option<(u64, u64)>) {
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
            switches: None,
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

    pub fn host(&mut self, event: HostEvent, gfn: u64, pages: u64) {
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

    pub fn store(&mut self, gpa: u64) {
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

    pub fn mark(&mut self, name: &str) {
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
            stopped_ns: None,
        });
    }

    /// A keyframe of one page, which says that it has `pages`.
    pub fn keyframe(&mut self, number: u32, spt: u64, pages: u32) {
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
        let mark = KeyframeMark {
            number,
            pages,
            stopped_ns: None,
        };
        batch
            .marks
            .push(MarkRow::of_keyframe(seq, time_ns, vm, mark));
    }

    pub fn write(mut self) -> Damaged {
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
