//! Storms of zaps: what one act zaps, of a VM that runs on.
//!
//! An act is what a thread zaps in a row. A fault of a vCPU, or another event of a page on its
//! thread, begins another; so does a pause, which alone bounds the acts of other threads.
//!
//! When a VM ends, KVM zaps all its pages, and nothing of the VM comes after that. So a storm waits
//! for what comes next of its VM; or, since a VM may idle, for who looks which VMs run.

use std::collections::{BTreeMap, BTreeSet};

use events::{Hpa, PageEvent, RoleLayout, Seq, TimeNs, VcpuId, VmId};
use trace::{
    Event, FaultRow, KeyframeRow, PageRow,
    pathology::{self, STORM_PAUSE_NS, ZAP_STORM},
};

/// `None`: a thread that is no vCPU's.
type Thread = (VmId, Option<VcpuId>);

/// Follows the shadow pages of every VM.
#[derive(Debug)]
pub struct Zaps {
    layout: RoleLayout,
    acts: BTreeMap<Thread, Act>,
    pages: BTreeMap<VmId, BTreeSet<Hpa>>,
    waiting: BTreeMap<VmId, Event>,
}

#[derive(Clone, Copy, Debug)]
struct Act {
    zapped: u32,
    /// Pages of the VM when it zapped the first.
    of_pages: u64,
    last: TimeNs,
}

impl Zaps {
    /// Nothing has come yet.
    pub fn new(layout: RoleLayout) -> Self {
        Self {
            layout,
            acts: BTreeMap::new(),
            pages: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// A fault: what its vCPU zaps next is another act.
    pub fn fault(&mut self, row: &FaultRow) -> Option<Event> {
        self.acts.remove(&(row.vm, Some(row.vcpu)));
        self.lives(row.vm, row.seq)
    }

    /// An event of a page.
    pub fn page(&mut self, row: &PageRow) -> Option<Event> {
        if row.event == PageEvent::Zapped {
            self.zapped(row);
            return None;
        }
        if row.event == PageEvent::Born {
            self.pages.entry(row.vm).or_default().insert(row.spt);
        }
        if row.vcpu.is_some() {
            self.acts.remove(&(row.vm, row.vcpu));
        }
        self.lives(row.vm, row.seq)
    }

    /// A page in a keyframe.
    pub fn keyframe(&mut self, row: &KeyframeRow) {
        self.pages.entry(row.vm).or_default().insert(row.spt);
    }

    /// The storm of a VM that something comes of now. A record that came late is of before it.
    fn lives(&mut self, vm: VmId, seq: Seq) -> Option<Event> {
        let storm = self.waiting.get(&vm)?;
        let is_after = storm.seq.is_none_or(|storm| storm < seq.0);
        is_after.then(|| self.waiting.remove(&vm)).flatten()
    }

    /// When the first storm was of which nobody knows yet whether its VM runs on.
    pub fn waits_since(&self) -> Option<u64> {
        self.waiting.values().map(|storm| storm.time_ns).min()
    }

    /// At a moment these VMs had their memory, and every other one had ended: the first storm before
    /// it of a VM that runs on. Those of VMs that have ended are none.
    pub fn looked(&mut self, time_ns: u64, run: &BTreeSet<VmId>) -> Option<Event> {
        let before = self
            .waiting
            .extract_if(.., |_, storm| storm.time_ns < time_ns);
        let storms = before.filter(|(vm, _)| run.contains(vm));
        storms
            .map(|(_, storm)| storm)
            .min_by_key(|storm| storm.time_ns)
    }

    fn zapped(&mut self, row: &PageRow) {
        let pages = self.pages.entry(row.vm).or_default();
        let all = pages.len() as u64;
        let is_known = pages.remove(&row.spt);
        // A vCPU gives back a root that was zapped before.
        if row.role.is_invalid(&self.layout) {
            return;
        }
        let new = Act {
            zapped: 0,
            // Where a birth was lost, nobody knows what half of all is.
            of_pages: if is_known { all } else { u64::MAX },
            last: row.time_ns,
        };
        let act = self.acts.entry((row.vm, row.vcpu)).or_insert(new);
        if row.time_ns.0.saturating_sub(act.last.0) > STORM_PAUSE_NS {
            *act = new;
        }
        let was_storm = pathology::is_storm(act.zapped, act.of_pages);
        act.zapped += 1;
        act.last = row.time_ns;
        if was_storm || !pathology::is_storm(act.zapped, act.of_pages) {
            return;
        }
        let who = match row.vcpu {
            Some(vcpu) => format!("vCPU {}", vcpu.0),
            None => "a thread that is no vCPU's".to_owned(),
        };
        self.waiting.insert(
            row.vm,
            Event {
                on: ZAP_STORM.to_owned(),
                time_ns: row.time_ns.0,
                vm: Some(row.vm.0),
                seq: Some(row.seq.0),
                what: format!("{} shadow pages zapped by {who}", act.zapped),
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use events::{Gfn, Level, Role};

    use super::*;

    const CPU: Option<VcpuId> = Some(VcpuId(0));

    /// Events of pages of one VM, a microsecond apart.
    struct Story {
        zaps: Zaps,
        next: u64,
    }

    impl Story {
        /// A VM with so many pages.
        fn of(pages: u64) -> Self {
            let mut story = Self {
                zaps: Zaps::new(RoleLayout::default()),
                next: 0,
            };
            for page in 0..pages {
                story.event(PageEvent::Born, page, CPU);
            }
            story
        }

        fn event(&mut self, event: PageEvent, page: u64, vcpu: Option<VcpuId>) -> Option<Event> {
            self.next += 1;
            self.zaps.page(&PageRow {
                seq: Seq(self.next),
                time_ns: TimeNs(self.next * 1000),
                vm: VmId(0),
                vcpu,
                event,
                spt: Hpa(page << 12),
                gfn: Gfn(page),
                role: Role(1),
                level: Level(1),
                direct: 0,
                unsync: 0,
            })
        }

        fn zap(&mut self, pages: std::ops::Range<u64>, vcpu: Option<VcpuId>) {
            for page in pages {
                assert_eq!(self.event(PageEvent::Zapped, page, vcpu), None);
            }
        }

        fn born(&mut self, page: u64) -> Option<Event> {
            self.event(PageEvent::Born, page, CPU)
        }
    }

    #[test]
    fn the_end_of_a_vm_is_no_storm() {
        for vcpu in [None, CPU] {
            let mut story = Story::of(100);
            story.zap(0..100, vcpu);
            assert!(story.zaps.waiting.contains_key(&VmId(0)));
            // Another VM's records say nothing of this one.
            assert_eq!(story.zaps.lives(VmId(1), Seq(1000)), None);
            // Nor does one of before that came late.
            assert_eq!(story.zaps.lives(VmId(0), Seq(100)), None);
        }
    }

    #[test]
    fn a_storm_of_a_vm_that_idles_is_found_by_a_look() {
        let looked = |time: u64, run: &[u16]| {
            let mut story = Story::of(100);
            story.zap(0..20, CPU);
            assert_eq!(story.zaps.waits_since(), Some(116_000));
            let run = run.iter().map(|vm| VmId(*vm)).collect();
            let storm = story.zaps.looked(time, &run);
            (storm.map(|storm| storm.seq), story.zaps.waits_since())
        };
        assert_eq!(looked(200_000, &[0, 3]), (Some(Some(116)), None));
        assert_eq!(looked(200_000, &[3]), (None, None), "it has ended");
        // The look came before the storm, whose VM may have ended since.
        assert_eq!(looked(116_000, &[0]), (None, Some(116_000)));
        assert_eq!(looked(116_000, &[]), (None, Some(116_000)));
    }

    #[test]
    fn what_comes_after_a_storm_shows_that_the_vm_runs_on() {
        for vcpu in [None, CPU] {
            let mut story = Story::of(100);
            story.zap(0..20, vcpu);
            let storm = story.born(200).expect("a storm");
            assert_eq!(storm.seq, Some(116), "the sixteenth page");
            assert_eq!(story.born(201), None, "once");
        }
        let mut story = Story::of(100);
        story.zap(0..15, CPU);
        assert_eq!(story.born(200), None);
        story.zap(20..35, CPU);
        assert_eq!(story.born(201), None, "another act");
    }

    #[test]
    fn half_of_all_pages_are_a_storm() {
        for (zapped, is_storm) in [(3, false), (4, true)] {
            let mut story = Story::of(8);
            story.zap(0..zapped, CPU);
            assert_eq!(story.born(20).is_some(), is_storm, "{zapped}");
        }
    }

    #[test]
    fn zaps_of_a_long_time_do_not_add_up() {
        for vcpu in [None, CPU] {
            let mut story = Story::of(1000);
            for page in 0..500 {
                story.zap(page..page + 1, vcpu);
                // Two tenths of a second.
                story.next += 200_000;
            }
            assert_eq!(story.born(2000), None);
        }
    }
}
