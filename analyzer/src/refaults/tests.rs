//! Short stories in which the records come in another order than what they are of.

use events::{
    Cause, Class, ErrorCode, Gfn, Gva, HostEvent, Hpa, Level, PageEvent, Role, RoleLayout, Seq,
    Spte, TimeNs, VcpuId, VmId,
};
use trace::{EntryRow, FaultRow, HostRow, Meta, PageRow, Record, Slot, WorkloadMeta};

use super::{Options, Other, Refaulted, Refaults};
use crate::{
    listing::{FaultFilter, Window},
    replay::{Gaps, Replay, ReplayOptions, blank_fault},
    study::{Follow as _, Subject},
};

const TABLE: Hpa = Hpa(0x5000);
const UPPER: Hpa = Hpa(0x6000);
const PAGE: Gfn = Gfn(0x400);
/// A leaf that lets the guest read, and one that lets it write.
const READ: Spte = Spte(1 << 11 | 0x9005);
const WRITE: Spte = Spte(1 << 11 | 0x9007);
/// Read, page not present; write, page present.
const MISSING: u32 = 4;
const REFUSED: u32 = 7;

#[derive(Default)]
struct Story(Vec<Record>);

impl Story {
    /// With a leaf table.
    fn begun() -> Self {
        let mut story = Self::default();
        story.page(PageEvent::Born, TABLE, Level(1), Gfn(0x80));
        story
    }

    fn at(&self) -> (Seq, TimeNs) {
        let seq = self.0.len() as u64;
        (Seq(seq), TimeNs(1000 + seq * 100))
    }

    fn page(&mut self, event: PageEvent, spt: Hpa, level: Level, gfn: Gfn) {
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

    fn fault(&mut self, code: u32, spte: Spte) -> &mut FaultRow {
        let (seq, time_ns) = self.at();
        self.0.push(Record::Fault(FaultRow {
            class: Class::Shadow,
            time_ns,
            gva: Gva(0x7000),
            error_code: ErrorCode(code),
            gpa: Some(PAGE.gpa(0)),
            slot: Some(Slot(1)),
            root: UPPER,
            sptep: Some(TABLE),
            spte: Some(spte),
            level: Some(Level(1)),
            total_ns: 10,
            ..blank_fault(seq)
        }));
        match self.0.last_mut() {
            Some(Record::Fault(row)) => row,
            _ => unreachable!("it was added just now"),
        }
    }

    fn entry(&mut self, cause: Cause, vcpu: Option<u16>, sptep: Hpa, spte: Spte) {
        let (seq, time_ns) = self.at();
        self.0.push(Record::Entry(EntryRow {
            seq,
            time_ns,
            vm: VmId(0),
            vcpu: vcpu.map(VcpuId),
            cause,
            sptep,
            spte,
            old: None,
            level: Level(1),
            gfn: Some(PAGE),
        }));
    }

    fn host(&mut self, event: HostEvent, slot: u16, gfn: Gfn) {
        let (seq, time_ns) = self.at();
        self.0.push(Record::Host(HostRow {
            seq,
            time_ns,
            vm: VmId(0),
            vcpu: None,
            event,
            slot: Some(Slot(slot)),
            gfn,
            pages: 16,
        }));
    }

    /// With a leaf table below an upper one, which maps gva 0.
    fn linked() -> Self {
        let mut story = Self::default();
        story.page(PageEvent::Born, UPPER, Level(2), Gfn(0x81));
        story.page(PageEvent::Born, TABLE, Level(1), Gfn(0x80));
        let link = Spte(TABLE.0 | 1 << 11 | 0x27);
        story.entry(Cause::Link, Some(0), UPPER, link);
        if let Some(Record::Entry(row)) = story.0.last_mut() {
            row.level = Level(2);
        }
        story
    }

    fn refaults(&self, every_change: bool) -> Refaults {
        self.refaults_of(every_change, FaultFilter::default())
    }

    fn refaults_of(&self, every_change: bool, filter: FaultFilter) -> Refaults {
        let mut meta = Meta {
            workload: Some(WorkloadMeta::default()),
            ..Meta::default()
        };
        let mut sees = meta.sees();
        (sees.every_change, sees.from_birth) = (every_change, true);
        meta.sees = Some(sees);
        let subject = Subject {
            vm: VmId(0),
            recording: &meta,
            meta: None,
            span_ns: [0, 0],
        };
        let options = Options {
            filter,
            ..Options::default()
        };
        let mut refaults = Refaults::new(&subject, options);
        let mut replay = Replay::new(ReplayOptions {
            role: RoleLayout::default(),
            from_birth: true,
            sees_every_change: every_change,
            ..ReplayOptions::default()
        });
        for record in &self.0 {
            refaults.before(record, replay.vm(VmId(0)));
            replay.apply(record);
            refaults.after(record, replay.vm(VmId(0)));
        }
        refaults.finish(None, sees).unwrap();
        refaults
    }

    fn bill(&self, every_change: bool) -> Refaulted {
        self.refaults(every_change).bill(&Gaps::default())
    }

    /// Causes with their acts, removed, weakened and refaults.
    fn causes(&self, every_change: bool) -> Vec<(&'static str, [u64; 4])> {
        self.causes_of(every_change, FaultFilter::default())
    }

    fn causes_of(&self, every_change: bool, filter: FaultFilter) -> Vec<(&'static str, [u64; 4])> {
        let refaults = self.refaults_of(every_change, filter);
        let bill = refaults.bill(&Gaps::default());
        let all = super::RefaultCause::ALL.iter();
        let of = all.filter_map(|cause| Some((cause.name(), bill.cause(*cause)?)));
        let numbers = of.map(|(name, of)| {
            let [acts, refaults] = [of.acts, of.refaults];
            let entries = [of.entries_removed, of.entries_weakened];
            (name, [acts, entries[0], entries[1], refaults])
        });
        numbers.filter(|(_, of)| *of != [0; 4]).collect()
    }
}

/// The guest stores again to a page from which the dirty log takes W just then.
fn logged(slot: u16, gfn: Gfn) -> Story {
    let mut story = Story::begun();
    story.fault(MISSING, WRITE);
    story.fault(REFUSED, WRITE);
    story.host(HostEvent::DirtyClear, slot, gfn);
    story
}

#[test]
fn a_dirty_log_recorded_after_the_fault_that_it_caused_is_the_cause() {
    let dirty = logged(1, PAGE).causes(false);
    assert_eq!(dirty, [("dirty_log", [1, 0, 1, 1])]);
}

/// Another memslot, other pages, another kind of act, or an act that has its record before.
#[test]
fn an_act_elsewhere_is_not_the_cause() {
    let unseen = [("not_seen", [0, 0, 0, 1])];
    assert_eq!(logged(2, PAGE).causes(false), unseen);
    assert_eq!(logged(1, Gfn(PAGE.0 + 16)).causes(false), unseen);
    assert_eq!(logged(1, PAGE).causes(true), unseen);
    let mut story = Story::begun();
    story.fault(MISSING, WRITE);
    story.fault(REFUSED, WRITE);
    story.host(HostEvent::Unmap, 1, PAGE);
    assert_eq!(story.causes(false), unseen);
}

/// Only the next act of the kind on the memslot was under way.
#[test]
fn the_act_after_the_next_is_not_the_cause() {
    let mut story = logged(1, Gfn(PAGE.0 + 16));
    story.host(HostEvent::DirtyClear, 1, PAGE);
    assert_eq!(story.causes(false), [("not_seen", [0, 0, 0, 1])]);
}

#[test]
fn an_unmap_recorded_after_the_fault_that_it_caused_is_the_cause() {
    let mut story = Story::begun();
    story.fault(MISSING, READ);
    story.fault(MISSING, READ);
    story.host(HostEvent::Unmap, 1, PAGE);
    assert_eq!(story.causes(false), [("host_unmap", [1, 1, 0, 1])]);
}

/// Two vCPUs fault on one page: nothing took the entry from the second.
#[test]
fn an_entry_that_another_vcpu_stored_meanwhile_was_not_lost() {
    for (by, after, expected) in [(1, true, 1), (1, false, 0), (0, true, 0)] {
        let mut story = Story::begun();
        story.fault(MISSING, READ).vcpu = VcpuId(2);
        story.fault(MISSING, READ).vcpu = VcpuId(by);
        let stored = story.0[2].time();
        let row = story.fault(MISSING, READ);
        row.time_ns = TimeNs(if after {
            stored.0 - 1
        } else {
            stored.0 + 30_000
        });
        row.slot = None;
        let refaults = story.refaults(true);
        let missed = refaults.other(Other::NothingMissing).count;
        assert_eq!(missed, expected, "{by} {after}");
    }
}

/// The fault that stored to the table has its record before the zap, where it stored a leaf.
#[test]
fn a_table_zapped_after_a_store_to_it_is_not_without_a_reason() {
    for (gfn, cause) in [(PAGE, "store_retried"), (Gfn(0x90), "recycling")] {
        let mut story = Story::begun();
        story.page(PageEvent::Born, Hpa(0x8000), Level(1), gfn);
        let of_table = |story: &mut Story| {
            story.fault(MISSING, READ).sptep = Some(Hpa(0x8000));
        };
        of_table(&mut story);
        story.fault(MISSING, READ).class = Class::WriteProtected;
        story.page(PageEvent::Zapped, Hpa(0x8000), Level(1), gfn);
        story.page(PageEvent::Born, Hpa(0x8000), Level(1), gfn);
        of_table(&mut story);
        let causes = story.causes(true);
        let causes: Vec<_> = causes.iter().map(|(name, _)| *name).collect();
        assert_eq!(causes, [cause]);
    }
}

/// A large leaf takes the place of a table whose entry had lost W.
#[test]
fn a_large_leaf_over_a_table_has_the_cause_of_what_was_below() {
    let mut story = Story::linked();
    story.fault(MISSING, WRITE).gva = Gva(0);
    story.host(HostEvent::DirtyClear, 1, PAGE);
    story.entry(Cause::DirtyLog, None, TABLE, READ);
    let row = story.fault(REFUSED, Spte(1 << 11 | 0x20_0087));
    (row.sptep, row.level, row.gva) = (Some(UPPER), Some(Level(2)), Gva(0));
    assert_eq!(story.causes(true), [("dirty_log", [1, 0, 1, 1])]);
}

/// The host takes the entry away while KVM handles a fault, which KVM then gives up.
#[test]
fn an_entry_that_went_while_the_fault_was_handled_has_a_reason_of_its_own() {
    for (begun_before, expected) in [(true, [0, 0, 1]), (false, [1, 0, 0])] {
        let mut story = Story::linked();
        story.fault(MISSING, READ).gva = Gva(0);
        let begun = story.at().1;
        story.host(HostEvent::Unmap, 1, PAGE);
        story.entry(Cause::HostUnmap, None, TABLE, Spte(0));
        let row = story.fault(MISSING, READ);
        (row.class, row.gva) = (Class::Retried, Gva(0));
        (row.sptep, row.spte, row.level) = (None, None, None);
        if begun_before {
            row.time_ns = begun;
        }
        let bill = story.bill(true);
        let of = bill.totals;
        assert_eq!(
            [of.refaults, of.nothing_missing, of.went_meanwhile],
            expected
        );
        assert_eq!((of.faults, of.first), (2, 1));
        // The same access faults once more: that is no cost of its own in the median.
        let p50 = bill.causes.iter().find_map(|cause| cause.p50_ns);
        assert_eq!(p50, None);
    }
}

/// Two dirty logs, each with a refault; the second is in the stretch.
#[test]
fn acts_and_what_they_removed_are_counted_over_the_stretch_of_the_refaults() {
    let mut story = Story::begun();
    story.fault(MISSING, WRITE);
    for _ in 0..2 {
        story.host(HostEvent::DirtyClear, 1, PAGE);
        story.entry(Cause::DirtyLog, None, TABLE, READ);
        story.fault(REFUSED, WRITE);
    }
    assert_eq!(story.causes(true), [("dirty_log", [2, 0, 2, 2])]);
    let of = |window, classes| {
        let filter = FaultFilter {
            window,
            classes,
            ..FaultFilter::default()
        };
        story.causes_of(true, filter)
    };
    let of_seqs = |seqs, expected| {
        let causes = of(Window::of_seqs(seqs), Vec::new());
        assert_eq!(causes, [("dirty_log", expected)], "{seqs:?}");
    };
    of_seqs([5, 7], [1, 0, 1, 1]);
    of_seqs([4, 4], [0, 0, 0, 1]);
    of_seqs([5, 6], [1, 0, 1, 0]);
    let fast = of(Window::default(), vec![Class::Fast]);
    assert_eq!(fast, [("dirty_log", [2, 0, 2, 0])]);
}

/// The refault is all that shows what a late act weakened: also one that is not asked for.
#[test]
fn what_a_late_act_weakened_does_not_depend_on_the_faults_asked_for() {
    let filter = FaultFilter {
        classes: vec![Class::Fast],
        ..FaultFilter::default()
    };
    let causes = logged(1, PAGE).causes_of(false, filter);
    assert_eq!(causes, [("dirty_log", [1, 0, 1, 0])]);
}
