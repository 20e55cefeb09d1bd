//! Records of short stories, for tests.

use events::{
    Cause, Gfn, Gpa, HostEvent, Hpa, Level, PageEvent, Role, RoleLayout, Seq, Spte, TimeNs, VcpuId,
    VmId,
};
use trace::{
    EntryRow, FaultRow, HostRow, KeyframeMark, KeyframePage, MarkRow, PageRow, Record, RootRow,
};

use super::{AnomalyKind, Replay, ReplayOptions, VmReplay, blank_fault};

pub(super) const VM: VmId = VmId(0);
pub(super) const PRESENT: u64 = 1 << 11;
pub(super) const EMPTY: Spte = Spte(1 << 63);

/// Records in the order in which they are added.
#[derive(Clone, Default)]
pub(super) struct Story(pub(super) Vec<Record>);

impl Story {
    pub(super) fn seq(&self) -> Seq {
        Seq(self.0.len() as u64)
    }

    pub(super) fn page(self, event: PageEvent, spt: u64, level: u8, gfn: u64) -> Self {
        self.any_page(event, spt, level, gfn, 0)
    }

    pub(super) fn direct(self, spt: u64, level: u8, gfn: u64) -> Self {
        self.any_page(PageEvent::Born, spt, level, gfn, 1)
    }

    pub(super) fn any_page(
        mut self,
        event: PageEvent,
        spt: u64,
        level: u8,
        gfn: u64,
        direct: u8,
    ) -> Self {
        let seq = self.seq();
        self.0.push(Record::Page(PageRow {
            seq,
            time_ns: TimeNs(seq.0),
            vm: VM,
            vcpu: None,
            event,
            spt: Hpa(spt),
            gfn: Gfn(gfn),
            role: Role(u32::from(level)),
            level: Level(level),
            direct,
            unsync: 0,
        }));
        self
    }

    pub(super) fn entry(
        self,
        cause: Cause,
        place: u64,
        level: u8,
        old: Option<u64>,
        new: u64,
    ) -> Self {
        self.any_entry(cause, place, level, old, new, None)
    }

    /// A leaf that maps `gfn`.
    pub(super) fn leaf(self, cause: Cause, place: u64, level: u8, gfn: u64, new: u64) -> Self {
        self.any_entry(cause, place, level, None, new, Some(Gfn(gfn)))
    }

    fn any_entry(
        mut self,
        cause: Cause,
        place: u64,
        level: u8,
        old: Option<u64>,
        new: u64,
        gfn: Option<Gfn>,
    ) -> Self {
        let seq = self.seq();
        self.0.push(Record::Entry(EntryRow {
            seq,
            time_ns: TimeNs(seq.0),
            vm: VM,
            vcpu: None,
            cause,
            sptep: Hpa(place),
            spte: Spte(new),
            old: old.map(Spte),
            level: Level(level),
            gfn,
        }));
        self
    }

    pub(super) fn copy(
        mut self,
        keyframe: u32,
        spt: u64,
        level: u8,
        entries: &[(u16, u64)],
    ) -> Self {
        let seq = self.seq();
        self.0.push(Record::Keyframe(KeyframePage {
            seq,
            time_ns: TimeNs(seq.0),
            vm: VM,
            keyframe,
            spt: Hpa(spt),
            gfn: Gfn(1),
            role: Role(u32::from(level)),
            level: Level(level),
            direct: false,
            unsync: false,
            root_count: 0,
            entries: entries
                .iter()
                .map(|(at, spte)| (*at, Spte(*spte)))
                .collect(),
            gfns: Vec::new(),
        }));
        self
    }

    pub(super) fn mark(mut self, keyframe: u32, pages: u32) -> Self {
        let seq = self.seq();
        let mark = KeyframeMark {
            number: keyframe,
            pages,
            stopped_ns: None,
        };
        let mark = MarkRow::of_keyframe(seq, TimeNs(seq.0), VM, mark);
        self.0.push(Record::Mark(mark));
        self
    }

    pub(super) fn pae_root(mut self, root: u64, pdptes: [u64; 4]) -> Self {
        self = self.root(root, 3);
        if let Some(Record::Root(row)) = self.0.last_mut() {
            let [first, second, third, fourth] = pdptes.map(|pdpte| Some(Spte(pdpte)));
            (row.pdpte0, row.pdpte1, row.pdpte2, row.pdpte3) = (first, second, third, fourth);
        }
        self
    }

    pub(super) fn root(mut self, root: u64, level: u8) -> Self {
        let seq = self.seq();
        self.0.push(Record::Root(RootRow {
            seq,
            time_ns: TimeNs(seq.0),
            vm: VM,
            vcpu: VcpuId(0),
            cr3: Gpa(0),
            root: Hpa(root),
            level: Level(level),
            ..RootRow::default()
        }));
        self
    }

    /// The root of a vCPU, as part of a keyframe.
    pub(super) fn keyframe_root(
        mut self,
        keyframe: u32,
        vcpu: u16,
        root: u64,
        level: u8,
        pdptes: Option<[u64; 4]>,
    ) -> Self {
        let seq = self.seq();
        let [pdpte0, pdpte1, pdpte2, pdpte3] = match pdptes {
            Some(pdptes) => pdptes.map(|pdpte| Some(Spte(pdpte))),
            None => [None; 4],
        };
        self.0.push(Record::Root(RootRow {
            seq,
            time_ns: TimeNs(seq.0),
            vcpu: VcpuId(vcpu),
            root: Hpa(root),
            level: Level(level),
            keyframe: Some(keyframe),
            pdpte0,
            pdpte1,
            pdpte2,
            pdpte3,
            ..RootRow::default()
        }));
        self
    }

    pub(super) fn host(mut self, event: HostEvent, gfn: u64, pages: u64) -> Self {
        let seq = self.seq();
        self.0.push(Record::Host(HostRow {
            seq,
            time_ns: TimeNs(seq.0),
            vm: VM,
            vcpu: None,
            event,
            slot: None,
            gfn: Gfn(gfn),
            pages,
        }));
        self
    }

    /// A fault that stored a leaf in a table of level 1.
    pub(super) fn fault(mut self, root: u64, place: u64, gfn: u64, spte: u64) -> Self {
        let seq = self.seq();
        self.0.push(Record::Fault(FaultRow {
            root: Hpa(root),
            gpa: Some(Gfn(gfn).gpa(0)),
            sptep: Some(Hpa(place)),
            spte: Some(Spte(spte)),
            level: Some(Level(1)),
            ..blank_fault(seq)
        }));
        self
    }

    pub(super) fn replay(&self, from_birth: bool) -> VmReplay {
        self.replay_with(from_birth, false)
    }

    pub(super) fn replay_with(&self, from_birth: bool, sees_every_change: bool) -> VmReplay {
        self.replay_as(ReplayOptions {
            from_birth,
            sees_every_change,
            ..ReplayOptions::default()
        })
    }

    pub(super) fn replay_as(&self, options: ReplayOptions) -> VmReplay {
        let mut replay = Replay::new(ReplayOptions {
            role: RoleLayout {
                invalid: [8, 1],
                ..RoleLayout::default()
            },
            ..options
        });
        self.0.iter().for_each(|record| replay.apply(record));
        replay.vm(VM).cloned().unwrap_or_default()
    }
}

pub(super) fn kinds(vm: &VmReplay) -> Vec<AnomalyKind> {
    vm.anomalies().counts().keys().copied().collect()
}
