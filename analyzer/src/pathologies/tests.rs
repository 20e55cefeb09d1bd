//! Short made-up stories that have a pathology, and ones that lack a step of it.

use events::{
    Act, Cause, Class, ErrorCode, Gfn, Gpa, Gpte, Gva, HostEvent, Hpa, Level, PageEvent, Pfn, Role,
    RoleLayout, Seq, Spte, TimeNs, VcpuId, VmId,
};
use trace::{
    ActRow, Counters, EntryRow, FaultRow, HostRow, KeyframePage, Meta, PageRow, Record, RootRow,
    Slot, VmMeta,
    pathology::{REPEATS, STORM_PAUSE_NS},
};

use super::{Finding, Pathologies, Pathology, prefetch::UNUSED};
use crate::{
    replay::{Gaps, Replay, ReplayOptions, blank_fault},
    study::{Follow as _, Subject},
    top::{By, Payers, Question},
};

const PLACE: Hpa = Hpa(0x5000);
const LEAF: u64 = 1 << 11 | 0x9005;

/// Records in the order in which they are added.
#[derive(Default)]
struct Story(Vec<Record>);

impl Story {
    fn at(&self) -> (Seq, TimeNs) {
        let seq = self.0.len() as u64;
        (Seq(seq), TimeNs(seq * 100))
    }

    fn table() -> Self {
        let mut story = Self::default();
        story.of_table(PageEvent::Born);
        story
    }

    /// An event of the table.
    fn of_table(&mut self, event: PageEvent) {
        self.page(event, PLACE, Gfn(0x80), Level(1));
    }

    /// An event of a page, on the thread of vCPU 0.
    fn page(&mut self, event: PageEvent, spt: Hpa, gfn: Gfn, level: Level) {
        let (seq, time_ns) = self.at();
        self.0.push(Record::Page(PageRow {
            seq,
            time_ns,
            vm: VmId(0),
            vcpu: Some(VcpuId(0)),
            event,
            spt,
            gfn,
            role: Role(level.0.into()),
            level,
            direct: 0,
            unsync: 0,
        }));
    }

    fn last_fault(&mut self) -> &mut FaultRow {
        match self.0.last_mut() {
            Some(Record::Fault(row)) => row,
            _ => panic!("the latest record is no fault"),
        }
    }

    fn fault(&mut self, class: Class, rip: u64, leaf: Option<u64>) {
        let (seq, time_ns) = self.at();
        self.0.push(Record::Fault(FaultRow {
            time_ns,
            class,
            gva: Gva(0x7000),
            error_code: ErrorCode(6),
            rip: Some(Gva(rip)),
            sptep: leaf.map(|_| PLACE),
            spte: leaf.map(Spte),
            level: leaf.map(|_| Level(1)),
            total_ns: 10,
            ..blank_fault(seq)
        }));
    }

    fn entry(&mut self, cause: Cause, index: u64, spte: u64) {
        let (seq, time_ns) = self.at();
        self.0.push(Record::Entry(EntryRow {
            seq,
            time_ns,
            vm: VmId(0),
            vcpu: Some(VcpuId(0)),
            cause,
            sptep: Hpa(PLACE.0 + index * 8),
            spte: Spte(spte),
            old: None,
            level: Level(1),
            gfn: None,
        }));
    }

    fn keyframe(&mut self, entries: Vec<(u16, Spte)>) {
        let (seq, time_ns) = self.at();
        self.0.push(Record::Keyframe(KeyframePage {
            seq,
            time_ns,
            vm: VmId(0),
            keyframe: 1,
            spt: PLACE,
            gfn: Gfn(0x80),
            role: Role(1),
            level: Level(1),
            direct: false,
            unsync: false,
            root_count: 0,
            entries,
            gfns: Vec::new(),
        }));
    }

    fn found(&self) -> Vec<Finding> {
        self.found_of(None)
    }

    fn found_of(&self, vm: Option<&VmMeta>) -> Vec<Finding> {
        let mut meta = Meta::default();
        let mut sees = meta.sees();
        sees.acts = self.0.iter().any(|of| matches!(of, Record::Act(_)));
        meta.sees = Some(sees);
        let subject = Subject {
            vm: VmId(0),
            recording: &meta,
            meta: vm,
            span_ns: [0, 0],
        };
        let mut both = (
            Payers::of(&subject, &[Question::new(By::GuestTable)]),
            Pathologies::new(&subject),
        );
        let mut replay = Replay::new(ReplayOptions {
            role: RoleLayout::default(),
            from_birth: true,
            ..ReplayOptions::default()
        });
        for record in &self.0 {
            both.before(record, replay.vm(VmId(0)));
            replay.apply(record);
            both.after(record, replay.vm(VmId(0)));
        }
        both.finish(replay.vm(VmId(0)), meta.sees()).unwrap();
        both.1.findings(&both.0, &Gaps::default())
    }

    /// A fault on page `page` of the guest's huge page at gfn 0x400, which KVM maps by a small one.
    fn small(&mut self, page: u64, pfn: u64) {
        let (seq, time_ns) = self.at();
        self.0.push(Record::Fault(FaultRow {
            time_ns,
            class: Class::Shadow,
            gva: Gva(0x40_0000 + page * 4096),
            gpte2: Some(Gpte(0x40_0087)),
            gpa: Some(Gfn(0x400 + page).gpa(0)),
            slot: Some(Slot(1)),
            pfn: Some(Pfn(pfn)),
            sptep: Some(Hpa(PLACE.0 + page * 8)),
            spte: Some(Spte(pfn << 12 | 1 << 11 | 5)),
            level: Some(Level(1)),
            ..blank_fault(seq)
        }));
    }

    fn dirty_log(&mut self, event: HostEvent) {
        let (seq, time_ns) = self.at();
        self.0.push(Record::Host(HostRow {
            seq,
            time_ns,
            vm: VmId(0),
            vcpu: None,
            event,
            slot: Some(Slot(1)),
            gfn: Gfn(0x400),
            pages: 512,
        }));
    }

    /// An event of each of these pages, `pause` ns apart.
    fn pages(&mut self, event: PageEvent, pages: std::ops::Range<u64>, pause: u64) {
        for page in pages {
            let before = self.0.last().map_or(0, |record| record.time().0);
            let (seq, _) = self.at();
            self.0.push(Record::Page(PageRow {
                seq,
                time_ns: TimeNs(before + pause),
                vm: VmId(0),
                vcpu: None,
                event,
                spt: Hpa((page + 16) << 12),
                gfn: Gfn(page + 0x100),
                role: Role(1),
                level: Level(1),
                direct: 0,
                unsync: 0,
            }));
        }
    }

    /// Why a huge page is not there.
    fn why(&self) -> String {
        let one = self.one();
        assert_eq!(one.pathology, Pathology::NoHugePage);
        one.culprit.why.unwrap()
    }

    fn one(&self) -> Finding {
        let [one] = <[Finding; 1]>::try_from(self.found()).unwrap();
        one
    }
}

fn retried(times: u64) -> Story {
    let mut story = Story::table();
    for _ in 0..times {
        story.fault(Class::Retried, 0x100, None);
    }
    story
}

#[test]
fn equal_retried_faults_are_a_live_lock_from_the_threshold_on() {
    assert_eq!(retried(REPEATS - 1).found(), []);
    let found = retried(REPEATS + 3).one();
    assert_eq!(found.pathology, Pathology::LiveLock);
    assert_eq!((found.count, found.size), (1, REPEATS + 3));
    assert_eq!(found.cost_ns, Some(10 * (REPEATS + 3)));
    assert_eq!(found.seq, Seq(1), "the first of them");
    assert_eq!(found.culprit.rip, Some(Gva(0x100)));
    assert_eq!(found.culprit.gva, Some(Gva(0x7000)));
}

/// A fault whose thread was switched out holds other work: its time is in the cost, and apart.
#[test]
fn other_work_in_the_cost_is_known_and_sets_no_order() {
    let mut story = retried(REPEATS);
    let Some(Record::Fault(last)) = story.0.last_mut() else {
        panic!("a fault");
    };
    (last.total_ns, last.switches) = (4_000_000, Some(1));
    let found = story.one();
    assert_eq!(found.cost_ns, Some(4_000_000 + 10 * (REPEATS - 1)));
    assert_eq!(found.switched_out_ns, 4_000_000);
    assert_eq!(found.own_ns(), Some(10 * (REPEATS - 1)));
}

/// Shadow faults that store what is there already are the same.
#[test]
fn faults_that_store_the_same_leaf_again_are_a_live_lock() {
    let mut story = Story::table();
    for _ in 0..=REPEATS {
        story.fault(Class::Shadow, 0x100, Some(LEAF));
    }
    let found = story.one();
    assert_eq!(found.pathology, Pathology::LiveLock);
    // The first stored the leaf.
    assert!(found.size >= REPEATS, "{}", found.size);
}

/// The guest's own faults are one where nothing that decides changes in between.
#[test]
fn refusals_by_the_same_entries_are_a_live_lock() {
    let story = |gpte: fn(u64) -> u64| {
        let mut story = Story::table();
        for number in 0..REPEATS {
            story.fault(Class::Guest, 0x100, None);
            if let Some(Record::Fault(row)) = story.0.last_mut() {
                row.gpte1 = Some(Gpte(gpte(number)));
            }
        }
        story
    };
    // Not present, whatever else it holds; read-only, with A or without.
    for gpte in [|number| number << 5, |number: u64| 5 | (number & 1) << 5] {
        let found = story(gpte).one();
        assert_eq!(
            (found.pathology, found.size),
            (Pathology::LiveLock, REPEATS)
        );
        assert!(found.culprit.why.is_some());
    }
    // Another frame each time.
    assert_eq!(story(|number| 5 | number << 12).found(), []);
}

/// The end of a VM zaps all its pages, and nothing comes after.
#[test]
fn many_zaps_are_a_storm_if_the_vm_runs_on() {
    let mut story = Story::default();
    story.pages(PageEvent::Born, 0..40, 100);
    story.pages(PageEvent::Zapped, 0..40, 100);
    assert_eq!(story.found(), [], "the end of a VM");
    story.pages(PageEvent::Born, 0..1, 100);
    let storm = story.one();
    assert_eq!(storm.pathology, Pathology::ZapStorm);
    assert_eq!((storm.count, storm.size, storm.seq), (1, 40, Seq(40)));
    // Another one, long after, is the end.
    story.pages(PageEvent::Born, 1..40, STORM_PAUSE_NS);
    story.pages(PageEvent::Zapped, 0..40, 100);
    assert_eq!(story.one().count, 1);
}

/// Nothing comes after, but the recorder looked at the VM when it ended.
#[test]
fn many_zaps_are_a_storm_if_the_vm_idles_until_the_end() {
    let mut story = Story::default();
    story.pages(PageEvent::Born, 0..40, 100);
    story.pages(PageEvent::Zapped, 0..40, 100);
    let mut vm = VmMeta {
        counters_after: Some(Counters::default()),
        ..VmMeta::default()
    };
    let [storm] = &story.found_of(Some(&vm))[..] else {
        panic!("it is a storm");
    };
    assert_eq!(storm.pathology, Pathology::ZapStorm);
    vm.ended = Some("its process ended".to_owned());
    assert_eq!(story.found_of(Some(&vm)), [], "the end of a VM");
}

#[test]
fn zaps_long_after_each_other_are_no_storm() {
    for (pause, is_storm) in [(STORM_PAUSE_NS, true), (STORM_PAUSE_NS + 1, false)] {
        let mut story = Story::default();
        story.pages(PageEvent::Born, 0..100, 100);
        story.pages(PageEvent::Zapped, 0..16, pause);
        story.pages(PageEvent::Born, 0..1, 100);
        assert_eq!(!story.found().is_empty(), is_storm, "{pause}");
    }
}

#[test]
fn progress_ends_a_run() {
    for step in 0..4 {
        let mut story = retried(REPEATS - 1);
        match step {
            0 => story.fault(Class::Shadow, 0x100, Some(LEAF)),
            1 => story.entry(Cause::Other, 0, LEAF),
            2 => story.fault(Class::Guest, 0x100, None),
            _ => story.fault(Class::Retried, 0x108, None),
        }
        for _ in 0..REPEATS - 2 {
            story.fault(Class::Retried, 0x100, None);
        }
        assert_eq!(story.found(), [], "step {step}");
    }
}

/// Hardware sets A at the first access.
/// KVM sets the flag of a memslot before the record of it: faults come between.
#[test]
fn the_host_has_small_pages_only_where_its_frames_show_it() {
    let mut story = Story::table();
    story.small(0, 0x1000);
    // The page of zeroes makes way for another huge page.
    story.small(1, 0x3001);
    assert!(
        story.why().starts_with("why is not seen"),
        "{}",
        story.why()
    );
    story.dirty_log(HostEvent::DirtyStart);
    story.dirty_log(HostEvent::DirtyStop);
    story.small(2, 0x3002);
    assert!(
        story.why().starts_with("why is not seen"),
        "{}",
        story.why()
    );
    story.dirty_log(HostEvent::DirtyStart);
    story.small(3, 0x3003);
    assert_eq!(story.why(), "dirty logging is on");
    story.small(4, 0x7777);
    assert_eq!(story.why(), "the host backs it with small pages");
}

#[test]
fn prefetched_entries_without_a_at_a_keyframe_are_unused() {
    let story = |used: u64| {
        let mut story = Story::table();
        let leaf = |index: u64| 1 << 11 | 5 | (0x900 + index) << 12;
        for index in 0..2 * UNUSED {
            story.entry(Cause::Prefetch, index, leaf(index));
        }
        let entries = (0..2 * UNUSED).map(|index| {
            let accessed = if index < used { 1 << 5 } else { 0 };
            (index as u16, Spte(leaf(index) | accessed))
        });
        story.keyframe(entries.collect());
        story
    };
    assert_eq!(story(UNUSED + 1).found(), []);
    let found = story(UNUSED).one();
    assert_eq!(found.pathology, Pathology::UnusedPrefetch);
    assert_eq!((found.count, found.size), (UNUSED, 2 * UNUSED));
    assert_eq!(found.cost_ns, None, "no record has the time of a prefetch");
    assert_eq!(found.seq, Seq(1 + UNUSED), "the first unused one");
}

/// A fault on the place makes it no longer one that was mapped ahead.
#[test]
fn an_entry_that_a_fault_stored_is_not_prefetched() {
    let mut story = Story::table();
    for index in 0..2 * UNUSED {
        story.entry(Cause::Prefetch, index, LEAF);
        story.entry(Cause::HostUnmap, index, 0);
    }
    story.keyframe((0..2 * UNUSED).map(|at| (at as u16, Spte(LEAF))).collect());
    assert_eq!(story.found(), []);
}

/// Rounds of one table: each is opened by a fault of so many ns; the last is not complete.
fn rounds(costs: &[u64]) -> Story {
    let mut story = Story::table();
    for cost in costs {
        if story.0.len() > 1 {
            story.of_table(PageEvent::Sync);
        }
        story.of_table(PageEvent::Unsync);
        story.fault(Class::Unsync, 0x100, None);
        let row = story.last_fault();
        (row.gpa, row.total_ns) = (Some(Gfn(0x80).gpa(8)), *cost);
    }
    story
}

#[test]
fn the_costliest_complete_round_shows_the_ping_pong() {
    let found = rounds(&[10, 50, 20, 30, 90]).one();
    assert_eq!(found.pathology, Pathology::PingPong);
    assert_eq!((found.count, found.size), (1, 4));
    assert_eq!(found.cost_ns, Some(200));
    // Born, then unsync and its fault, then twice sync, unsync and its fault.
    assert_eq!(found.seq, Seq(5), "the one of 50 ns");
    assert_eq!(rounds(&[10, 50, 20]).found(), []);
}

/// KVM maps by small pages where a guest table lies, also a leaf table that comes later.
#[test]
fn a_leaf_table_in_the_region_is_why_it_has_small_pages() {
    let unseen = |story: &Story| story.why().starts_with("why is not seen");
    let mut story = Story::table();
    story.small(0, 0x1000);
    assert!(unseen(&story));
    story.pages(PageEvent::Born, 0x310..0x311, 100);
    story.small(1, 0x1001);
    assert_eq!(story.why(), "a guest table lies in the region");
    // What was there before does not count after its zap.
    let mut story = Story::table();
    story.pages(PageEvent::Born, 0x310..0x311, 100);
    story.pages(PageEvent::Zapped, 0x310..0x311, 100);
    story.small(0, 0x1000);
    assert!(unseen(&story));
    // The host's small pages came first.
    let mut story = Story::table();
    story.small(0, 0x7777);
    story.pages(PageEvent::Born, 0x310..0x311, 100);
    story.small(1, 0x1001);
    assert_eq!(story.why(), "the host backs it with small pages");
}

#[test]
fn the_faults_that_filled_a_table_of_small_entries_are_its_cost() {
    let mut story = Story::table();
    for page in 0..512 {
        story.small(page, 0x1000 + page);
        let row = story.last_fault();
        row.gpte2 = Some(Gpte(0x9_0067));
        row.total_ns = 10;
    }
    let found = story.one();
    assert_eq!(found.pathology, Pathology::NoHugePage);
    assert_eq!((found.count, found.size), (1, 512));
    assert_eq!(found.cost_ns, Some(5120));
    assert_eq!(
        (found.seq, found.culprit.gva),
        (Seq(1), Some(Gva(0x40_0000)))
    );
}

/// What is paid on a new root until the next switch; on the first one of all, and on one that is
/// there still, nothing is.
#[test]
fn faults_on_a_new_root_are_the_cost_of_its_rebuild() {
    let story = |rebuilt: u64| {
        let mut story = Story::default();
        for number in 0..2 * rebuilt {
            let spt = Hpa((0x100 + number.min(rebuilt)) << 12);
            if number <= rebuilt {
                story.page(PageEvent::Born, spt, Gfn(0x90), Level(4));
            }
            let (seq, time_ns) = story.at();
            story.0.push(Record::Root(RootRow {
                seq,
                time_ns,
                vm: VmId(0),
                vcpu: VcpuId(0),
                cr3: Gpa(0x9_0000),
                root: spt,
                level: Level(4),
                keyframe: None,
                pdpte0: None,
                pdpte1: None,
                pdpte2: None,
                pdpte3: None,
            }));
            story.fault(Class::Shadow, 0x100 + number, Some(LEAF));
            story.fault(Class::Guest, 0x100 + number, None);
        }
        story
    };
    let found = story(super::roots::REBUILT).one();
    assert_eq!(found.pathology, Pathology::RootsRebuilt);
    assert_eq!((found.count, found.size), (1, super::roots::REBUILT));
    assert_eq!(found.cost_ns, Some(10 * super::roots::REBUILT));
}

#[test]
fn an_unsync_storm_costs_the_time_of_its_syncs_where_they_have_one() {
    let story = |timed: bool| {
        let mut story = Story::default();
        let pages = || (0..super::unsync_storm::SYNCED).map(|page| (Hpa((page + 16) << 12), page));
        for (spt, page) in pages() {
            story.page(PageEvent::Born, spt, Gfn(page + 0x100), Level(1));
        }
        for (spt, page) in pages() {
            story.page(PageEvent::Sync, spt, Gfn(page + 0x100), Level(1));
        }
        for act in [Act::SyncRoots, Act::Invlpg] {
            let (seq, time_ns) = story.at();
            let record = Record::Act(ActRow {
                seq,
                time_ns,
                vm: VmId(0),
                vcpu: Some(VcpuId(0)),
                act,
                total_ns: 700,
                synced: 16,
                zapped: 0,
            });
            story.0.extend(timed.then_some(record));
        }
        story.one()
    };
    for (timed, cost) in [(true, Some(700)), (false, None)] {
        let found = story(timed);
        assert_eq!(found.pathology, Pathology::UnsyncStorm);
        assert_eq!(found.cost_ns, cost);
    }
}
