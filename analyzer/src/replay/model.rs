//! Replay against the most naive model: flat maps, no reverse maps, every rule a scan.

use std::collections::{BTreeMap, BTreeSet};

use events::{
    Cause, Gfn, Gpa, Gva, HostEvent, Hpa, Level, PageEvent, Role, RoleLayout, Seq, Spte, TimeNs,
    VcpuId, VmId,
};
use proptest::prelude::*;
use trace::{
    EntryRow, FaultRow, HostRow, KeyframeMark, KeyframePage, MarkRow, PageRow, Record, RootRow,
};

use super::{
    Replay, ReplayOptions, ShadowTables,
    records::{any_record, blank_fault},
};

const PRESENT: u64 = 1 << 11;
const WRITE: u64 = 1 << 1 | 1 << 10;

/// What a record did, with few enough values that they meet.
#[derive(Clone, Debug)]
enum Step {
    Page {
        event: PageEvent,
        page: u64,
        level: u8,
        direct: bool,
        gfn: u64,
    },
    Leaf {
        page: u64,
        index: u64,
        gfn: u64,
        flags: u64,
        by_fault: bool,
    },
    Link {
        page: u64,
        index: u64,
        child: u64,
    },
    Clear {
        page: u64,
        index: u64,
    },
    Root {
        vcpu: u16,
        page: u64,
    },
    Host {
        event: HostEvent,
        gfn: u64,
        pages: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop::sample::select(PageEvent::ALL.to_vec());
    prop_oneof![
        3 => (event, 1..6_u64, 1..4_u8, any::<bool>(), 0..6_u64)
            .prop_map(|(event, page, level, direct, gfn)| {
                // A direct page maps what its level is aligned to (`kvm_mmu_get_child_sp`).
                let gfn = if direct && level > 1 { 0 } else { gfn };
                Step::Page { event, page, level, direct, gfn }
            }),
        4 => (1..6_u64, 0..3_u64, 0..6_u64, 0..8_u64, any::<bool>())
            .prop_map(|(page, index, gfn, flags, by_fault)| {
                Step::Leaf { page, index, gfn, flags, by_fault }
            }),
        3 => (1..6_u64, 0..3_u64, 1..6_u64)
            .prop_map(|(page, index, child)| Step::Link { page, index, child }),
        1 => (1..6_u64, 0..3_u64).prop_map(|(page, index)| Step::Clear { page, index }),
        1 => (0..3_u16, 1..6_u64).prop_map(|(vcpu, page)| Step::Root { vcpu, page }),
        // Few ranges, so that some that were read again are settled.
        2 => (prop::sample::select(HostEvent::ALL.to_vec()), 0..2_u64, 0..2_u64)
            .prop_map(|(event, gfn, pages)| {
                Step::Host { event, gfn: gfn * 2, pages: 1 + pages * 3 }
            }),
    ]
}

fn spt(page: u64) -> Hpa {
    Hpa(page << 12)
}

fn place(page: u64, index: u64) -> Hpa {
    Hpa((page << 12) + index * 8)
}

/// Host frames are at a fixed distance from guest frames, far from the tables.
fn leaf(gfn: u64, flags: u64) -> Spte {
    let write = if flags & 1 != 0 { WRITE } else { 0 };
    let large = if flags & 2 != 0 { 1 << 7 } else { 0 };
    Spte(PRESENT | 1 | (gfn + 0x1000) << 12 | write | large)
}

fn record(seq: u64, step: &Step) -> Record {
    let (seq, time_ns, vm) = (Seq(seq), TimeNs(seq), VmId(0));
    let entry = |sptep, spte, gfn| {
        Record::Entry(EntryRow {
            seq,
            time_ns,
            vm,
            vcpu: None,
            cause: Cause::Other,
            sptep,
            spte,
            old: None,
            level: Level(1),
            gfn,
        })
    };
    match *step {
        Step::Page {
            event,
            page,
            level,
            direct,
            gfn,
        } => Record::Page(PageRow {
            seq,
            time_ns,
            vm,
            vcpu: None,
            event,
            spt: spt(page),
            gfn: Gfn(gfn),
            role: Role(u32::from(level)),
            level: Level(level),
            direct: u8::from(direct),
            unsync: 0,
        }),
        Step::Leaf {
            page,
            index,
            gfn,
            flags,
            by_fault: false,
        } => entry(place(page, index), leaf(gfn, flags), Some(Gfn(gfn))),
        Step::Leaf {
            page,
            index,
            gfn,
            flags,
            by_fault: true,
        } => Record::Fault(FaultRow {
            sptep: Some(place(page, index)),
            spte: Some(leaf(gfn, flags)),
            level: Some(Level(1)),
            gpa: Some(Gfn(gfn).gpa(0)),
            ..blank_fault(seq)
        }),
        Step::Link { page, index, child } => {
            entry(place(page, index), Spte(PRESENT | 7 | spt(child).0), None)
        }
        Step::Clear { page, index } => entry(place(page, index), Spte(1 << 63), None),
        Step::Root { vcpu, page } => Record::Root(RootRow {
            seq,
            time_ns,
            vm,
            vcpu: VcpuId(vcpu),
            cr3: Gpa(page),
            root: spt(page),
            level: Level(4),
            ..RootRow::default()
        }),
        Step::Host { event, gfn, pages } => Record::Host(HostRow {
            seq,
            time_ns,
            vm,
            vcpu: None,
            event,
            slot: None,
            gfn: Gfn(gfn),
            pages,
        }),
    }
}

#[derive(Clone, Debug)]
struct ModelPage {
    level: u8,
    direct: bool,
    gfn: u64,
    unsync: bool,
}

/// Entry by (page, index): its value and the guest frame given with it.
#[derive(Default)]
struct Model {
    pages: BTreeMap<u64, ModelPage>,
    entries: BTreeMap<(u64, u64), (u64, Option<u64>)>,
    roots: BTreeMap<u16, u64>,
    /// By range: the places of its leaves when it was read again, less those named since.
    rereads: BTreeMap<(u64, u64), BTreeSet<(u64, u64)>>,
}

impl Model {
    /// First frame that a present leaf maps and how many, if it is known.
    fn frames(&self, page: u64, index: u64) -> Option<(u64, u64)> {
        let (spte, known) = self.entries.get(&(page, index))?;
        let info = &self.pages[&page];
        let span = 1_u64 << (9 * (u32::from(info.level) - 1));
        let first = match info.direct {
            true => info.gfn + index * span,
            false => (*known)? & !(span - 1),
        };
        self.is_leaf(page, *spte).then_some((first, span))
    }

    fn host(&mut self, event: HostEvent, gfn: u64, pages: u64) {
        let overlaps = |(first, span): (u64, u64)| first < gfn + pages && gfn < first + span;
        match event {
            HostEvent::Reread => {
                let leaves = self.entries.keys().copied();
                let leaves =
                    leaves.filter(|(page, index)| self.frames(*page, *index).is_some_and(overlaps));
                let leaves = leaves.collect();
                self.rereads.insert((gfn, pages), leaves);
            }
            HostEvent::Settled => {
                let gone = self.rereads.remove(&(gfn, pages));
                for place in gone.into_iter().flatten() {
                    self.entries.remove(&place);
                }
            }
            _ => {}
        }
    }

    /// Entries that point to each page, and each shadowed frame: its pages and whether it is
    /// protected.
    fn reverse(&self) -> Reverse {
        let mut reverse = Reverse::default();
        for ((page, index), (spte, _)) in &self.entries {
            if spte & PRESENT != 0 && !self.is_leaf(*page, *spte) {
                let child = (spte & 0xf_ffff_ffff_f000) >> 12;
                let parents = reverse.parents.entry(child).or_default();
                parents.insert((*page, *index));
            }
        }
        reverse
            .parents
            .retain(|child, _| self.pages.contains_key(child));
        for (page, info) in self.pages.iter().filter(|(_, info)| !info.direct) {
            let writable = self.entries.iter().any(|((of, index), (spte, _))| {
                let frames = self.frames(*of, *index);
                let meets = frames.is_some_and(|(first, span)| {
                    // As KVM's rmap: keyed by the frame aligned to the leaf's span.
                    first == info.gfn & !(span - 1)
                });
                meets && spte & 2 != 0
            });
            reverse.tables.insert(*page, (info.gfn, !writable));
        }
        reverse
    }

    fn is_leaf(&self, page: u64, spte: u64) -> bool {
        spte & PRESENT != 0 && (self.pages[&page].level == 1 || spte & 1 << 7 != 0)
    }

    fn protect(&mut self, gfn: u64) {
        let keys: Vec<_> = self.entries.keys().copied().collect();
        for (page, index) in keys {
            let (spte, known) = self.entries[&(page, index)];
            let info = &self.pages[&page];
            let span = 1_u64 << (9 * (u32::from(info.level) - 1));
            let first = if info.direct {
                Some(info.gfn + index * span)
            } else {
                known.map(|gfn| gfn & !(span - 1))
            };
            // As KVM's rmap: keyed by the aligned frame at the leaf's level.
            if self.is_leaf(page, spte) && first == Some(gfn & !(span - 1)) {
                self.entries.insert((page, index), (spte & !WRITE, known));
            }
        }
    }

    fn zap(&mut self, page: u64) {
        if self.pages.contains_key(&page) {
            self.entries.retain(|(of, _), _| *of != page);
            let parents: Vec<_> = self
                .entries
                .iter()
                .filter(|((of, _), (spte, _))| {
                    spte & PRESENT != 0
                        && !self.is_leaf(*of, *spte)
                        && spte & 0xf_ffff_ffff_f000 == page << 12
                })
                .map(|(key, _)| *key)
                .collect();
            for key in parents {
                self.entries.remove(&key);
            }
            self.pages.remove(&page);
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Page {
                event,
                page,
                level,
                direct,
                gfn,
            } => match event {
                PageEvent::Born => {
                    self.zap(page);
                    self.pages.insert(
                        page,
                        ModelPage {
                            level,
                            direct,
                            gfn,
                            unsync: false,
                        },
                    );
                    if !direct {
                        self.protect(gfn);
                    }
                }
                PageEvent::Reused => {}
                PageEvent::Unsync => {
                    self.pages.entry(page).and_modify(|page| page.unsync = true);
                }
                PageEvent::Sync => {
                    if let Some(synced) = self.pages.get_mut(&page) {
                        synced.unsync = false;
                        self.protect(gfn);
                    }
                }
                PageEvent::Zapped => self.zap(page),
            },
            Step::Leaf {
                page,
                index,
                gfn,
                flags,
                by_fault,
            } => {
                if by_fault {
                    // A blank fault's root.
                    self.roots.insert(0, 0);
                }
                self.store(page, index, leaf(gfn, flags).0, Some(gfn));
            }
            Step::Link { page, index, child } => {
                self.store(page, index, PRESENT | 7 | child << 12, None)
            }
            Step::Clear { page, index } => self.store(page, index, 1 << 63, None),
            Step::Root { vcpu, page } => {
                self.roots.insert(vcpu, page);
            }
            Step::Host { event, gfn, pages } => self.host(event, gfn, pages),
        }
    }

    fn store(&mut self, page: u64, index: u64, spte: u64, gfn: Option<u64>) {
        for unnamed in self.rereads.values_mut() {
            unnamed.remove(&(page, index));
        }
        if self.pages.contains_key(&page) {
            self.entries.insert((page, index), (spte, gfn));
        }
    }
}

/// What the reverse maps must say.
#[derive(Debug, Default, PartialEq)]
struct Reverse {
    parents: BTreeMap<u64, BTreeSet<(u64, u64)>>,
    tables: BTreeMap<u64, (u64, bool)>,
}

fn reverse_of_replay(tables: &ShadowTables) -> Reverse {
    let mut reverse = Reverse::default();
    for page in tables.pages() {
        let (spt, number) = (page.info.spt, page.info.spt.0 >> 12);
        let parents = tables.parents(spt).iter();
        let parents: BTreeSet<_> = parents
            .map(|place| (place.0 >> 12, u64::from(place.index())))
            .collect();
        if !parents.is_empty() {
            reverse.parents.insert(number, parents);
        }
        if let Some(table) = tables.guest_table(spt) {
            assert!(tables.shadowing(table.gfn).contains(&spt));
            let said = (table.gfn.0, table.write_protected);
            reverse.tables.insert(number, said);
        }
    }
    reverse
}

/// Page to level, direct, unsync and present entries.
type Picture = BTreeMap<u64, (u8, bool, bool, BTreeSet<(u64, u64)>)>;

fn picture_of_model(model: &Model) -> Picture {
    let mut picture: Picture = model
        .pages
        .iter()
        .map(|(page, info)| {
            (
                *page,
                (info.level, info.direct, info.unsync, BTreeSet::new()),
            )
        })
        .collect();
    for ((page, index), (spte, _)) in &model.entries {
        if spte & PRESENT != 0
            && let Some(page) = picture.get_mut(page)
        {
            page.3.insert((*index, *spte));
        }
    }
    picture
}

fn picture_of_replay(tables: &ShadowTables) -> Picture {
    let present = |page: &super::ShadowPage| {
        page.entries()
            .filter(|(_, spte)| spte.is_shadow_present())
            .map(|(index, spte)| (u64::from(index), spte.0))
            .collect()
    };
    tables
        .pages()
        .map(|page| {
            (
                page.info.spt.0 >> 12,
                (
                    page.info.level.0,
                    page.info.direct,
                    page.info.unsync,
                    present(page),
                ),
            )
        })
        .collect()
}

fn replay(steps: &[Step]) -> Replay {
    let mut replay = Replay::new(ReplayOptions {
        role: RoleLayout::default(),
        from_birth: true,
        sees_every_change: false,
        keyframe_roots: false,
    });
    for (seq, step) in (0..).zip(steps) {
        replay.apply(&record(seq, step));
    }
    replay
}

/// The tables as a keyframe would copy them.
fn keyframe(replay: &Replay, seq: u64) -> Vec<Record> {
    let pages = replay
        .vm(VmId(0))
        .map(|vm| vm.tables().sorted_pages())
        .unwrap_or_default();
    let mut records: Vec<Record> = (seq..)
        .zip(&pages)
        .map(|(seq, page)| {
            Record::Keyframe(KeyframePage {
                seq: Seq(seq),
                time_ns: TimeNs(seq),
                vm: VmId(0),
                keyframe: 0,
                spt: page.info.spt,
                gfn: page.info.gfn,
                role: page.info.role,
                level: page.info.level,
                direct: page.info.direct,
                unsync: page.info.unsync,
                root_count: 0,
                entries: page.entries().collect(),
                gfns: (0..512)
                    .filter(|index| page.entry(*index).is_leaf(page.info.level))
                    .filter_map(|index| Some((index, page.leaf_gfn(index)?)))
                    .collect(),
            })
        })
        .collect();
    let seq = Seq(seq + pages.len() as u64);
    let mark = KeyframeMark {
        number: 0,
        pages: pages.len() as u32,
        stopped_ns: None,
    };
    let mark = MarkRow::of_keyframe(seq, TimeNs(seq.0), VmId(0), mark);
    records.push(Record::Mark(mark));
    records
}

proptest! {
    #[test]
    fn replay_agrees_with_the_model(steps in prop::collection::vec(step(), 0..80)) {
        let mut model = Model::default();
        for step in &steps {
            model.apply(step);
        }
        let replay = replay(&steps);
        let empty = ShadowTables::default();
        let tables = replay.vm(VmId(0)).map_or(&empty, |vm| vm.tables());
        prop_assert_eq!(reverse_of_replay(tables), model.reverse());
        let roots = replay.vm(VmId(0)).into_iter().flat_map(|vm| vm.roots());
        let roots: BTreeMap<_, _> = roots
            .map(|(vcpu, current)| (vcpu.0, current.root.0 >> 12))
            .collect();
        prop_assert_eq!(roots, std::mem::take(&mut model.roots));
        let unsync = model.pages.values().filter(|page| page.unsync).count();
        prop_assert_eq!(tables.totals().unsync, unsync as u64);
        let model = picture_of_model(&model);
        prop_assert_eq!(&picture_of_replay(tables), &model);
        let present: usize = model.values().map(|(.., entries)| entries.len()).sum();
        prop_assert_eq!(tables.totals().entries(), present as u64);
        prop_assert_eq!(tables.totals().all_pages(), model.len() as u64);
    }

    /// A keyframe of the replayed tables finds no drift, and sets other tables to the same.
    #[test]
    fn a_keyframe_of_the_same_tables_is_exact(steps in prop::collection::vec(step(), 1..80)) {
        let replayed = replay(&steps);
        let records = keyframe(&replayed, steps.len() as u64);
        let mut verified = replayed.clone();
        let mut set = Replay::new(ReplayOptions::default());
        for record in &records {
            verified.apply(record);
            set.apply(record);
        }
        let check = verified.vm(VmId(0)).and_then(|vm| vm.checks().kept().first().cloned());
        prop_assert!(check.is_some_and(|check| check.drift.is_exact()));
        let picture = |replay: &Replay| replay.vm(VmId(0)).map(|vm| picture_of_replay(vm.tables()));
        prop_assert_eq!(picture(&set), picture(&replayed));
    }

    /// Replay that begins with a keyframe continues as replay from the beginning does.
    #[test]
    fn replay_continues_from_a_keyframe(
        before in prop::collection::vec(step(), 1..60),
        after in prop::collection::vec(step(), 1..40),
    ) {
        let mut whole = replay(&before);
        let mut set = Replay::new(ReplayOptions::default());
        let records = keyframe(&whole, before.len() as u64);
        for record in &records {
            whole.apply(record);
            set.apply(record);
        }
        let picture = |replay: &Replay| replay.vm(VmId(0)).map(|vm| picture_of_replay(vm.tables()));
        for (seq, step) in ((before.len() + records.len()) as u64..).zip(&after) {
            let record = record(seq, step);
            whole.apply(&record);
            set.apply(&record);
            prop_assert_eq!(picture(&set), picture(&whole));
            let totals = |replay: &Replay| replay.vm(VmId(0)).map(|vm| *vm.tables().totals());
            prop_assert_eq!(totals(&set), totals(&whole));
        }
    }

    /// Any numbers in any record: no panic, and every page counted is there.
    #[test]
    fn any_records_do_not_panic(
        raw in prop::collection::vec(any::<(u8, u64, u64, u64, u8, bool)>(), 0..200),
    ) {
        let mut replay = Replay::new(ReplayOptions {
            role: RoleLayout {
                level: [255, 255],
                direct: [31, 31],
                invalid: [8, 1],
                four_bytes: [255, 1],
                quadrant: [0, 255],
                ..RoleLayout::default()
            },
            keyframe_roots: true,
            ..ReplayOptions::default()
        });
        for (kind, a, b, c, small, flag) in raw {
            replay.apply(&any_record(kind, a, b, c, small, flag));
        }
        if let Some(vm) = replay.vm(VmId(0)) {
            let tables = vm.tables();
            prop_assert_eq!(tables.pages().count() as u64, tables.totals().all_pages());
            let present: u64 = tables.pages().map(|page| u64::from(page.present())).sum();
            prop_assert_eq!(present, tables.totals().entries());
            prop_assert_eq!(tables.totals().leaves_at.iter().sum::<u64>(), tables.totals().leaves);
            let read = |page: &super::ShadowPage| _ = tables.guest_table(page.info.spt);
            tables.pages().for_each(read);
            for root in vm.table_roots().all() {
                vm.ranges().root(root);
                vm.walk(root, Gva(1 << 47));
            }
        }
    }
}
