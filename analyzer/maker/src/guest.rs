//! One VM: its guest's tables, KVM's shadow of them, and KVM's counters.

use std::collections::BTreeMap;

use events::{
    Cause, Class, ErrorCode, Gfn, Gpa, Gpte, Gva, HostEvent, Hpa, Hva, Level, PageEvent, Pfn, Role,
    Spte, VcpuId, VmId,
};
use trace::{
    Counters, EntryRow, FaultRow, HostRow, KeyframeRow, LossRow, MarkRow, Memslot, PageRow,
    RootRow, Slot, VmMeta, WriteRow,
};

use super::{Shape, tape::Tape};

/// Where the range begins.
pub const RANGE: u64 = 0x4000_0000_0000;
/// Where the guest's kernel sees physical memory.
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const CR3: u64 = 0x1000;
const HVA: u64 = 0x7f00_0000_0000;
const SLOT_BYTES: u64 = 1 << 30;
/// Guest frame of the first page of the range; the guest's tables lie below.
const FIRST_GFN: u64 = 0x1000;
/// Host frame of the first VM's guest frame 0, and the distance to the next VM's.
const FIRST_PFN: u64 = 0x10_0000;
const LINK: u64 = 1 << 11 | 0x27;
const LEAF: u64 = 1 << 11 | 1 << 10 | 1 << 9 | 0x67;
/// `SHADOW_NONPRESENT_VALUE`.
const EMPTY: Spte = Spte(1 << 63);

/// How a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// Four levels, tables of the guest's own.
    Long,
    /// None: it runs on a PAE root, below which KVM maps memory directly.
    Off,
}

/// See the module.
#[derive(Debug)]
pub struct Guest {
    pub vm: VmId,
    pub vcpu: VcpuId,
    pub pid: u32,
    paging: Paging,
    root: Hpa,
    /// (level, first GVA) to the table.
    tables: BTreeMap<(u8, u64), Hpa>,
    entries: BTreeMap<Hpa, Spte>,
    counts: BTreeMap<&'static str, u64>,
    before: Counters,
    shadow_faults: u64,
}

impl Guest {
    pub fn new(vm: u16, pid: u32, paging: Paging) -> Self {
        Self {
            vm: VmId(vm),
            vcpu: VcpuId(0),
            pid,
            paging,
            root: Hpa(0),
            tables: BTreeMap::new(),
            entries: BTreeMap::new(),
            counts: BTreeMap::new(),
            before: Counters {
                vcpus: vec![BTreeMap::new()],
                ..Counters::default()
            },
            shadow_faults: 0,
        }
    }

    /// The first root is made, and seen.
    pub fn start(&mut self, tape: &mut Tape) {
        let level = match self.paging {
            Paging::Long => {
                self.born(tape, 4, 0);
                self.root = self.tables[&(4, 0)];
                Level(4)
            }
            Paging::Off => {
                self.root = tape.table();
                Level(3)
            }
        };
        self.see_root(tape, level);
    }

    /// A recorder that comes later sees the root at the first fault.
    pub fn see_root(&mut self, tape: &mut Tape, level: Level) {
        let (seq, time_ns) = tape.next(500);
        let (vm, vcpu, cr3, root) = (self.vm, self.vcpu, self.cr3(), self.root);
        tape.push(|batch| {
            batch.roots.push(RootRow {
                seq,
                time_ns,
                vm,
                vcpu,
                cr3,
                root,
                level,
                ..RootRow::default()
            });
        });
    }

    /// Recording begins now: KVM has counted before.
    pub fn found_running(&mut self, names: (&[&str], &[&str])) {
        self.before = self.counters(names);
    }

    fn cr3(&self) -> Gpa {
        match self.paging {
            Paging::Long => Gpa(CR3),
            Paging::Off => Gpa(0),
        }
    }

    /// Guest frame of a table, or the first one that a direct table maps.
    fn gfn(&self, level: u8, base: u64) -> Gfn {
        match (self.paging, level) {
            (Paging::Off, _) => Gfn(base >> 12),
            (Paging::Long, 4) => Gfn(CR3 >> 12),
            (Paging::Long, level) => Gfn(0x100 * u64::from(level) + (base >> 21 & 0xff)),
        }
    }

    fn pfn(&self, gfn: Gfn) -> Pfn {
        Pfn(FIRST_PFN * (1 + u64::from(self.vm.0)) + gfn.0)
    }

    fn count(&mut self, counter: &'static str) {
        *self.counts.entry(counter).or_default() += 1;
    }

    /// A page is used for the first time, or again after KVM dropped it.
    pub fn touch(&mut self, tape: &mut Tape, shape: &Shape, page: u64) {
        let gfn = Gfn(FIRST_GFN + page);
        let gva = match self.paging {
            Paging::Long => Gva(RANGE + page * 4096),
            Paging::Off => Gva(gfn.0 << 12),
        };
        if self.paging == Paging::Long {
            self.guest_fault(tape, gva);
        }
        self.shadow_fault(tape, shape, gva, gfn);
    }

    fn guest_fault(&mut self, tape: &mut Tape, gva: Gva) {
        let inject = 300 + tape.random(200);
        let (seq, time_ns) = tape.next(1000);
        self.count("pf_taken");
        self.count("pf_guest");
        let row = FaultRow {
            seq,
            time_ns,
            class: Class::Guest,
            gpte1: Some(Gpte(0)),
            walk_ns: Some(400),
            inject_ns: Some(inject),
            total_ns: 400 + inject,
            ..self.fault(gva)
        };
        tape.wait(row.total_ns);
        tape.push(|batch| batch.faults.push(row));
    }

    /// Links the tables on the path to an address; gives the leaf's table, and how many were made.
    fn path(&mut self, tape: &mut Tape, gva: Gva) -> (Hpa, u64) {
        let mut created = 0;
        let top = if self.paging == Paging::Long { 4 } else { 3 };
        let mut parent = (self.root, Level(top));
        for level in (1..top).rev() {
            let level = Level(level);
            let base = first(gva, level);
            let sptep = place(parent.0, parent.1, gva.0);
            if !self.tables.contains_key(&(level.0, base)) {
                self.born(tape, level.0, base);
                created += 1;
            } else if !self.entries.contains_key(&sptep) {
                self.page(tape, PageEvent::Reused, level.0, base);
            }
            let table = self.tables[&(level.0, base)];
            self.link(tape, sptep, table, parent.1);
            parent = (table, level);
        }
        (parent.0, created)
    }

    fn shadow_fault(&mut self, tape: &mut Tape, shape: &Shape, gva: Gva, gfn: Gfn) {
        let (table, created) = self.path(tape, gva);
        let sptep = place(table, Level(1), gva.0);
        let pfn = self.pfn(gfn);
        let spte = Spte(LEAF | pfn.0 << 12);
        self.entries.insert(sptep, spte);
        // A long tail, as real faults have.
        let slow = if tape.random(50) == 0 { 20_000 } else { 0 };
        let pfn_ns = 700 + tape.random(500) + slow;
        let tables = 200 + 900 * created;
        let (seq, time_ns) = tape.next(600);
        self.count("pf_taken");
        self.count("pf_fixed");
        let row = FaultRow {
            seq,
            time_ns,
            gpte1: self.gpte(gfn),
            gpa: Some(gfn.gpa(0)),
            slot: Some(Slot(0)),
            hva: Some(Hva(HVA + (gfn.0 << 12))),
            pfn: Some(pfn),
            sptep: Some(sptep),
            spte: Some(spte),
            level: Some(Level(1)),
            created: created as u8,
            walk_ns: Some(350),
            pfn_ns: Some(pfn_ns),
            tables_ns: Some(tables),
            write_ns: Some(150),
            entry_ns: Some(250),
            errno: None,
            switches: None,
            total_ns: 350 + pfn_ns + tables + 150 + 250,
            ..self.fault(gva)
        };
        tape.wait(row.total_ns);
        let lost = shape.lose == Some(self.shadow_faults) && self.vm == VmId(0);
        // The kernel counts what it loses for all VMs together.
        let (seq, vm, probe) = (events::Seq(tape.seq), VmId(0), "fault".to_owned());
        tape.push(|batch| match lost {
            false => batch.faults.push(row),
            true => batch.losses.push(LossRow {
                seq,
                time_ns,
                vm,
                vcpu: None,
                probe,
                count: 1,
                from_ns: time_ns,
            }),
        });
        self.shadow_faults += 1;
    }

    fn gpte(&self, gfn: Gfn) -> Option<Gpte> {
        (self.paging == Paging::Long).then_some(Gpte(gfn.0 << 12 | 0x67))
    }

    /// A fault of which only the address is known.
    fn fault(&self, gva: Gva) -> FaultRow {
        let table = |level: u8| self.gpte(self.gfn(level, first(gva, Level(level))));
        FaultRow {
            seq: events::Seq(0),
            time_ns: events::TimeNs(0),
            vm: self.vm,
            vcpu: self.vcpu,
            class: Class::Shadow,
            gva,
            error_code: ErrorCode::WRITE | ErrorCode::USER,
            cr3: self.cr3(),
            root: self.root,
            rip: Some(Gva(0x40_1000)),
            gpte5: None,
            gpte4: table(3),
            gpte3: table(2),
            gpte2: table(1),
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

    fn link(&mut self, tape: &mut Tape, sptep: Hpa, table: Hpa, level: Level) {
        // A PDPTE has the present bit only.
        let bits = if level == Level(3) && self.paging == Paging::Off {
            1
        } else {
            LINK
        };
        let spte = Spte(bits | table.0);
        let old = self.entries.insert(sptep, spte);
        if old != Some(spte) {
            self.entry(tape, Cause::Link, sptep, spte, None, level, None);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of a record")]
    fn entry(
        &self,
        tape: &mut Tape,
        cause: Cause,
        sptep: Hpa,
        spte: Spte,
        old: Option<Spte>,
        level: Level,
        gfn: Option<Gfn>,
    ) {
        let (seq, time_ns) = tape.next(50);
        let (vm, vcpu) = (self.vm, Some(self.vcpu));
        tape.push(|batch| {
            batch.entries.push(EntryRow {
                seq,
                time_ns,
                vm,
                vcpu,
                cause,
                sptep,
                spte,
                old,
                level,
                gfn,
            });
        });
    }

    fn born(&mut self, tape: &mut Tape, level: u8, base: u64) {
        let spt = tape.table();
        self.tables.insert((level, base), spt);
        self.count("mmu_cache_miss");
        self.page(tape, PageEvent::Born, level, base);
    }

    fn page(&self, tape: &mut Tape, event: PageEvent, level: u8, base: u64) {
        let (seq, time_ns) = tape.next(100);
        let row = PageRow {
            seq,
            time_ns,
            vm: self.vm,
            vcpu: Some(self.vcpu),
            event,
            spt: self.tables[&(level, base)],
            gfn: self.gfn(level, base),
            role: self.role(level),
            level: Level(level),
            direct: self.direct(),
            unsync: 0,
        };
        tape.push(|batch| batch.pages.push(row));
    }

    fn direct(&self) -> u8 {
        u8::from(self.paging == Paging::Off)
    }

    fn role(&self, level: u8) -> Role {
        Role(u32::from(level) | u32::from(self.direct()) << 8)
    }

    /// KVM zaps every leaf table.
    pub fn zap_leaf_tables(&mut self, tape: &mut Tape) {
        let leaves: Vec<_> = self
            .tables
            .range((1, 0)..(2, 0))
            .map(|(key, spt)| (*key, *spt))
            .collect();
        for ((level, base), spt) in leaves {
            self.count("mmu_shadow_zapped");
            self.page(tape, PageEvent::Zapped, level, base);
            self.tables.remove(&(level, base));
            self.entries
                .retain(|place, spte| place.table() != spt && spte.child() != spt);
        }
    }

    /// The host takes the memory of a page away.
    pub fn unmap(&mut self, tape: &mut Tape, page: u64) {
        let (seq, time_ns) = tape.next(2000);
        let (vm, gfn) = (self.vm, Gfn(FIRST_GFN + page));
        tape.push(|batch| {
            batch.host.push(HostRow {
                seq,
                time_ns,
                vm,
                vcpu: None,
                event: HostEvent::Unmap,
                slot: Some(Slot(0)),
                gfn,
                pages: 1,
            });
        });
        let gva = Gva(RANGE + page * 4096);
        let sptep = place(self.tables[&(1, first(gva, Level(1)))], Level(1), gva.0);
        let old = self.entries.remove(&sptep);
        self.entry(
            tape,
            Cause::HostUnmap,
            sptep,
            EMPTY,
            old,
            Level(1),
            Some(gfn),
        );
    }

    /// The guest stores to the entry of level 2 that leads to a page: the table is protected, so
    /// KVM emulates the store and unlinks what it shadows.
    pub fn store(&mut self, tape: &mut Tape, page: u64, value: u64) {
        let gva = Gva(RANGE + page * 4096);
        let base = first(gva, Level(2));
        let index = Level(2).index(gva).unwrap_or_default();
        let gpa = self.gfn(2, base).gpa(8 * u64::from(index));
        let began = tape.time + 700;
        let (seq, time_ns) = tape.next(1600);
        let (vm, vcpu) = (self.vm, self.vcpu);
        tape.push(|batch| {
            batch.writes.push(WriteRow {
                seq,
                time_ns,
                vm,
                vcpu,
                gpa,
                bytes: 8,
                value,
            });
        });
        self.count("mmu_pte_write");
        let sptep = place(self.tables[&(2, base)], Level(2), gva.0);
        if let Some(old) = self.entries.remove(&sptep) {
            self.entry(
                tape,
                Cause::GuestWrite,
                sptep,
                EMPTY,
                Some(old),
                Level(2),
                None,
            );
        }
        let (seq, _) = tape.next(400);
        self.count("pf_taken");
        self.count("pf_emulate");
        let row = FaultRow {
            seq,
            time_ns: events::TimeNs(began),
            class: Class::WriteProtected,
            error_code: ErrorCode::PRESENT | ErrorCode::WRITE,
            gpte1: self.gpte(gpa.gfn()),
            walk_ns: Some(350),
            emulate_ns: Some(900),
            total_ns: 1250,
            ..self.fault(Gva(DIRECT_MAP + gpa.0))
        };
        tape.push(|batch| batch.faults.push(row));
    }

    /// What the kernel does to its entries without a record.
    pub fn unseen(&mut self, shape: &Shape) {
        let place = |page: u64| {
            let gva = Gva(RANGE + page * 4096);
            place(self.tables[&(1, first(gva, Level(1)))], Level(1), gva.0)
        };
        let (other, gone) = (shape.drift.map(place), shape.late.map(place));
        if let Some(spte) = other.and_then(|place| self.entries.get_mut(&place)) {
            spte.0 ^= 1 << 12;
        }
        if let Some(place) = gone {
            self.entries.remove(&place);
        }
    }

    /// The guest marks a phase.
    pub fn mark(&self, tape: &mut Tape, name: &str) {
        let (seq, time_ns) = tape.next(10_000);
        let row = MarkRow {
            seq,
            time_ns,
            vm: self.vm,
            vcpu: Some(self.vcpu),
            name: name.to_owned(),
            guest_tsc: Some(time_ns.0),
            keyframe: None,
            pages: None,
            stopped_ns: None,
        };
        tape.push(|batch| batch.marks.push(row));
    }

    /// The recorder copies every shadow page.
    pub fn keyframe(&self, tape: &mut Tape, number: u32) {
        for ((level, base), spt) in &self.tables {
            let (seq, time_ns) = tape.next(100);
            let row = |entry: Option<(&Hpa, &Spte)>| KeyframeRow {
                seq,
                time_ns,
                vm: self.vm,
                vcpu: None,
                keyframe: number,
                spt: *spt,
                index: entry.map(|(place, _)| place.index()),
                spte: entry.map(|(_, spte)| *spte),
                gfn: self.gfn(*level, *base),
                role: self.role(*level),
                level: Level(*level),
                direct: self.direct(),
                unsync: 0,
                root_count: u32::from(*level == 4),
                leaf_gfn: None,
            };
            let entries = self.entries.range(*spt..Hpa(spt.0 + 4096));
            let rows = std::iter::once(row(None)).chain(entries.map(|entry| row(Some(entry))));
            tape.push(|batch| batch.keyframes.extend(rows));
        }
        let (seq, time_ns) = tape.next(100);
        let (vm, pages) = (self.vm, self.tables.len() as u32);
        tape.push(|batch| {
            batch.marks.push(MarkRow {
                seq,
                time_ns,
                vm,
                vcpu: None,
                name: "keyframe".to_owned(),
                guest_tsc: None,
                keyframe: Some(number),
                pages: Some(pages),
                stopped_ns: None,
            });
        });
    }

    /// KVM's counters by name: of the VM, of a vCPU.
    pub fn counters(&self, (vm, vcpu): (&[&str], &[&str])) -> Counters {
        let of = |names: &[&str]| {
            let value = |name: &&str| self.counts.get(*name).copied().unwrap_or(0);
            names
                .iter()
                .map(|name| ((*name).to_owned(), value(name)))
                .collect()
        };
        Counters {
            vm: of(vm),
            vcpus: vec![of(vcpu)],
        }
    }

    /// Its part of the metadata.
    pub fn meta(&self) -> VmMeta {
        VmMeta {
            vm: self.vm.0,
            pid: self.pid,
            name: "made-up".to_owned(),
            from_ns: 0,
            until_ns: None,
            ended: None,
            vcpus: vec![0],
            memslots: vec![Memslot {
                slot: 0,
                gpa: 0,
                bytes: SLOT_BYTES,
                hva: HVA,
                ..Memslot::default()
            }],
            counters_before: self.before.clone(),
            ..VmMeta::default()
        }
    }
}

/// First address that a table of this level translates, within the table above.
fn first(gva: Gva, level: Level) -> u64 {
    gva.0 & !((level.pages() << 21) - 1)
}

fn place(table: Hpa, level: Level, gva: u64) -> Hpa {
    let index = level.index(Gva(gva)).unwrap_or_default();
    Hpa(table.0 + u64::from(index) * 8)
}
