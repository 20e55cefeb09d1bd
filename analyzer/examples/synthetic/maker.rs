//! A VM that never ran: its records obey the rules of the shadow MMU, its numbers are made up.
//!
//! The guest maps a range, page by page: each page costs a fault of its own (injected) and a
//! shadow fault. Between two passes KVM zaps the leaf tables, so that every page faults again.

use std::{collections::BTreeMap, path::Path};

use events::{
    Cause, Class, Gfn, Gpa, Gpte, Gva, Hpa, Hva, Level, PageEvent, Pfn, Role, Seq, Spte, TimeNs,
    VcpuId, VmId,
};
use trace::{
    Batch, Counters, End, EntryRow, FaultRow, KeyframeRow, LossRow, MarkRow, Memslot, Meta,
    PageRow, ProbeState, RootRow, Slot, Tool, TraceError, TraceWriter, VmMeta, WorkloadMeta,
};

/// Where the range begins.
pub const RANGE: u64 = 0x4000_0000_0000;
const CR3: u64 = 0x1000;
const HVA: u64 = 0x7f00_0000_0000;
const SLOT_BYTES: u64 = 1 << 30;
const VM: VmId = VmId(0);
const VCPU: VcpuId = VcpuId(0);
/// Guest frame of the first page of the range; the guest's tables lie below.
const FIRST_GFN: u64 = 0x1000;
/// Host frame behind guest frame 0.
const FIRST_PFN: u64 = 0x10_0000;
/// Host frame of the first shadow page.
const FIRST_SPT: u64 = 0x80_0000;
const LINK: u64 = 1 << 11 | 0x27;
const LEAF: u64 = 1 << 11 | 1 << 10 | 1 << 9 | 0x67;

/// What is made up.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Pages of the range.
    pub pages: u64,
    /// Times that the whole range faults.
    pub passes: u64,
    /// Records in a segment.
    pub segment: usize,
    /// The record of this shadow fault, counted from 0, is lost on the way.
    pub lose: Option<u64>,
    /// The kernel cleared the entry of this page before the last keyframe, unseen.
    pub drift: Option<u64>,
    /// The recorder was killed before it wrote the end.
    pub cut: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            pages: 16,
            passes: 1,
            segment: 200_000,
            lose: None,
            drift: None,
            cut: false,
        }
    }
}

/// Makes the records.
pub struct Maker {
    shape: Shape,
    seq: u64,
    time: u64,
    random: u64,
    batch: Batch,
    writer: Option<TraceWriter>,
    /// (level, first GVA) to the table.
    tables: BTreeMap<(u8, u64), Hpa>,
    entries: BTreeMap<Hpa, Spte>,
    next_spt: u64,
    counts: BTreeMap<&'static str, u64>,
    shadow_faults: u64,
}

impl Maker {
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            seq: 0,
            time: 1_000_000_000,
            random: 1,
            batch: Batch::default(),
            writer: None,
            tables: BTreeMap::new(),
            entries: BTreeMap::new(),
            next_spt: FIRST_SPT,
            counts: BTreeMap::new(),
            shadow_faults: 0,
        }
    }

    /// Writes the whole trace.
    pub fn write(mut self, path: &Path) -> Result<(), TraceError> {
        let mut meta = self.meta();
        self.writer = Some(TraceWriter::create(path, &meta)?);
        self.run()?;
        if let (Some(mut writer), false) = (self.writer.take(), self.shape.cut) {
            writer.write(&self.batch)?;
            meta.complete = true;
            meta.end = Some(End {
                time_ns: self.time,
                reason: "done".to_owned(),
                records: self.seq,
                segments: writer.segments(),
                rows: writer.rows(),
                programs: vec![],
            });
            if let Some(vm) = meta.vms.first_mut() {
                vm.counters_after = Some(self.counters());
            }
            writer.meta_file().write(&meta)?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), TraceError> {
        self.mark("start");
        self.keyframe(0);
        self.born(4, 0, CR3 >> 12);
        let (seq, time_ns) = self.next(500);
        let root = self.tables[&(4, 0)];
        self.batch.roots.push(RootRow {
            seq,
            time_ns,
            vm: VM,
            vcpu: VCPU,
            cr3: Gpa(CR3),
            root,
            level: Level(4),
        });
        for pass in 0..self.shape.passes {
            self.mark(if pass == 0 { "touch" } else { "write" });
            for page in 0..self.shape.pages {
                self.touch(page);
                if self.rows() >= self.shape.segment {
                    self.flush()?;
                }
            }
            if pass + 1 < self.shape.passes {
                self.zap_leaf_tables();
            }
        }
        self.flush()?;
        if let Some(page) = self.shape.drift {
            let gva = RANGE + page * 4096;
            let table = self.tables[&(1, gva & !0x1f_ffff)];
            self.entries.remove(&place(table, Level(1), gva));
        }
        self.mark("done");
        self.keyframe(1);
        Ok(())
    }

    fn rows(&self) -> usize {
        self.batch.rows()
    }

    fn flush(&mut self) -> Result<(), TraceError> {
        let batch = std::mem::take(&mut self.batch);
        if let Some(writer) = &mut self.writer {
            writer.write(&batch)?;
        }
        Ok(())
    }

    fn next(&mut self, ns: u64) -> (Seq, TimeNs) {
        let seq = self.seq;
        self.seq += 1;
        self.time += ns;
        (Seq(seq), TimeNs(self.time))
    }

    /// xorshift64, Marsaglia 2003.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn count(&mut self, counter: &'static str) {
        *self.counts.entry(counter).or_default() += 1;
    }

    fn touch(&mut self, page: u64) {
        let gva = Gva(RANGE + page * 4096);
        self.guest_fault(gva);
        self.shadow_fault(gva, FIRST_GFN + page);
    }

    fn guest_fault(&mut self, gva: Gva) {
        let inject = 300 + self.random(200) as u32;
        let (seq, time_ns) = self.next(1000);
        self.count("pf_taken");
        self.count("pf_guest");
        let row = FaultRow {
            class: Class::Guest,
            gpte1: Some(Gpte(0)),
            walk_ns: Some(400),
            inject_ns: Some(inject),
            total_ns: 400 + inject,
            ..self.blank(seq, time_ns, gva)
        };
        self.batch.faults.push(row);
        self.time += 400 + u64::from(inject);
    }

    fn shadow_fault(&mut self, gva: Gva, gfn: u64) {
        let root = self.tables[&(4, 0)];
        let mut created = 0;
        let mut parent = (root, Level(4));
        for level in (1..=3).rev() {
            let level = Level(level);
            let base = gva.0 & !((level.pages() << 21) - 1);
            if !self.tables.contains_key(&(level.0, base)) {
                self.born(level.0, base, 0x10 + base % 0x7ff);
                created += 1;
            }
            let table = self.tables[&(level.0, base)];
            self.link(place(parent.0, parent.1, gva.0), table, parent.1);
            parent = (table, level);
        }
        let sptep = place(parent.0, Level(1), gva.0);
        let spte = Spte(LEAF | (FIRST_PFN + gfn) << 12);
        self.entries.insert(sptep, spte);
        // A long tail, as real faults have.
        let slow = if self.random(50) == 0 { 20_000 } else { 0 };
        let pfn = 700 + self.random(500) as u32 + slow;
        let tables = 200 + 900 * created;
        let (seq, time_ns) = self.next(600);
        self.count("pf_taken");
        self.count("pf_fixed");
        let row = FaultRow {
            class: Class::Shadow,
            gpte1: Some(Gpte(gfn << 12 | 0x67)),
            gpa: Some(Gfn(gfn).gpa(0)),
            slot: Some(Slot(0)),
            hva: Some(Hva(HVA + (gfn << 12))),
            pfn: Some(Pfn(FIRST_PFN + gfn)),
            sptep: Some(sptep),
            spte: Some(spte),
            level: Some(Level(1)),
            created: created as u8,
            walk_ns: Some(350),
            pfn_ns: Some(pfn),
            tables_ns: Some(tables),
            write_ns: Some(150),
            entry_ns: Some(250),
            total_ns: 350 + pfn + tables + 150 + 250,
            ..self.blank(seq, time_ns, gva)
        };
        self.time += u64::from(row.total_ns);
        if self.shape.lose != Some(self.shadow_faults) {
            self.batch.faults.push(row);
        } else {
            let (vm, probe) = (VM, "fault".to_owned());
            let seq = Seq(self.seq);
            self.batch.losses.push(LossRow {
                seq,
                time_ns,
                vm,
                vcpu: None,
                probe,
                count: 1,
                from_ns: time_ns,
            });
        }
        self.shadow_faults += 1;
    }

    fn blank(&self, seq: Seq, time_ns: TimeNs, gva: Gva) -> FaultRow {
        let gpte = |gpa: u64| Some(Gpte(gpa | 0x67));
        FaultRow {
            seq,
            time_ns,
            vm: VM,
            vcpu: VCPU,
            class: Class::Shadow,
            gva,
            error_code: 6,
            cr3: Gpa(CR3),
            root: self.tables[&(4, 0)],
            rip: Some(Gva(0x40_1000)),
            gpte5: None,
            gpte4: gpte(0x2000),
            gpte3: gpte(0x3000),
            gpte2: gpte(0x4000),
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
            total_ns: 0,
            exit_ns: None,
            walk_ns: None,
            pfn_ns: None,
            tables_ns: None,
            pfn_tables_ns: None,
            write_ns: None,
            inject_ns: None,
            entry_ns: None,
        }
    }

    fn link(&mut self, sptep: Hpa, table: Hpa, level: Level) {
        let spte = Spte(LINK | table.0);
        if self.entries.insert(sptep, spte) == Some(spte) {
            return;
        }
        let (seq, time_ns) = self.next(50);
        let (vm, vcpu, cause) = (VM, Some(VCPU), Cause::Link);
        self.batch.entries.push(EntryRow {
            seq,
            time_ns,
            vm,
            vcpu,
            cause,
            sptep,
            spte,
            level,
            gfn: None,
        });
    }

    fn born(&mut self, level: u8, base: u64, gfn: u64) {
        let spt = Hpa(self.next_spt << 12);
        self.next_spt += 1;
        self.tables.insert((level, base), spt);
        self.count("mmu_cache_miss");
        self.page(PageEvent::Born, spt, level, gfn);
    }

    fn page(&mut self, event: PageEvent, spt: Hpa, level: u8, gfn: u64) {
        let (seq, time_ns) = self.next(100);
        self.batch.pages.push(PageRow {
            seq,
            time_ns,
            vm: VM,
            vcpu: Some(VCPU),
            event,
            spt,
            gfn: Gfn(gfn),
            role: Role(u32::from(level)),
            level: Level(level),
            direct: 0,
            unsync: 0,
        });
    }

    fn zap_leaf_tables(&mut self) {
        let leaves: Vec<_> = self
            .tables
            .range((1, 0)..(2, 0))
            .map(|(key, spt)| (*key, *spt))
            .collect();
        for (key, spt) in leaves {
            self.count("mmu_shadow_zapped");
            self.page(PageEvent::Zapped, spt, 1, 0x10 + key.1 % 0x7ff);
            self.tables.remove(&key);
            self.entries
                .retain(|place, spte| place.table() != spt && spte.child() != spt);
        }
    }

    fn mark(&mut self, name: &str) {
        let (seq, time_ns) = self.next(10_000);
        self.batch.marks.push(MarkRow {
            seq,
            time_ns,
            vm: VM,
            vcpu: Some(VCPU),
            name: name.to_owned(),
            guest_tsc: Some(time_ns.0),
            keyframe: None,
            pages: None,
        });
    }

    fn keyframe(&mut self, number: u32) {
        let tables: Vec<_> = self.tables.iter().map(|(key, spt)| (*key, *spt)).collect();
        for ((level, base), spt) in &tables {
            let (seq, time_ns) = self.next(100);
            let gfn = if *level == 4 {
                CR3 >> 12
            } else {
                0x10 + base % 0x7ff
            };
            let row = |entry: Option<(&Hpa, &Spte)>| KeyframeRow {
                seq,
                time_ns,
                vm: VM,
                vcpu: None,
                keyframe: number,
                spt: *spt,
                index: entry.map(|(place, _)| place.index()),
                spte: entry.map(|(_, spte)| *spte),
                gfn: Gfn(gfn),
                role: Role(u32::from(*level)),
                level: Level(*level),
                direct: 0,
                unsync: 0,
                root_count: u32::from(*level == 4),
            };
            self.batch.keyframes.push(row(None));
            let entries = self.entries.range(*spt..Hpa(spt.0 + 4096));
            self.batch
                .keyframes
                .extend(entries.map(|entry| row(Some(entry))));
        }
        let (seq, time_ns) = self.next(100);
        self.batch.marks.push(MarkRow {
            seq,
            time_ns,
            vm: VM,
            vcpu: None,
            name: "keyframe".to_owned(),
            guest_tsc: None,
            keyframe: Some(number),
            pages: Some(tables.len() as u32),
        });
    }

    fn counters(&self) -> Counters {
        let of = |names: &[&'static str]| {
            names
                .iter()
                .map(|name| {
                    (
                        (*name).to_owned(),
                        self.counts.get(name).copied().unwrap_or(0),
                    )
                })
                .collect()
        };
        Counters {
            vm: of(&["mmu_cache_miss", "mmu_shadow_zapped", "mmu_unsync"]),
            vcpus: vec![of(&[
                "pf_taken",
                "pf_fixed",
                "pf_guest",
                "pf_emulate",
                "pf_spurious",
                "pf_fast",
            ])],
        }
    }

    fn meta(&self) -> Meta {
        let probe = |name: &str, attached, note: &str| ProbeState {
            name: name.to_owned(),
            hook: format!("raw tracepoint {name}"),
            attached,
            note: note.to_owned(),
        };
        Meta {
            schema: trace::SCHEMA_VERSION,
            tool: Tool {
                name: "synthetic".to_owned(),
                version: "0".to_owned(),
            },
            command: vec!["synthetic".to_owned()],
            started_ns: self.time,
            clock: "CLOCK_MONOTONIC".to_owned(),
            probes: vec![
                probe("kvm_mmu_set_spte", true, "leaf SPTEs"),
                probe("kvm_exit", false, "not called on this made-up host"),
            ],
            role: [("level", [0, 4]), ("direct", [8, 1]), ("invalid", [12, 1])]
                .map(|(name, place)| (name.to_owned(), place))
                .into(),
            vms: vec![VmMeta {
                vm: VM.0,
                pid: 1,
                vcpus: vec![VCPU.0],
                memslots: vec![Memslot {
                    slot: 0,
                    gpa: 0,
                    bytes: SLOT_BYTES,
                    hva: HVA,
                    from_ns: 0,
                }],
                counters_before: Counters {
                    vcpus: vec![BTreeMap::new()],
                    ..Counters::default()
                },
                counters_after: None,
            }],
            workload: Some(WorkloadMeta {
                name: "made-up".to_owned(),
                params: [("pages".to_owned(), self.shape.pages.to_string())].into(),
                range_gva: RANGE,
                range_pages: self.shape.pages,
                expected_guest_faults: self.shape.pages * self.shape.passes,
                expected_shadow_faults: self.shape.pages * self.shape.passes,
                ..WorkloadMeta::default()
            }),
            ..Meta::default()
        }
    }
}

fn place(table: Hpa, level: Level, gva: u64) -> Hpa {
    let index = level.index(Gva(gva)).unwrap_or_default();
    Hpa(table.0 + u64::from(index) * 8)
}
