//! One VM: its tables, its vCPUs' roots, its keyframes.

use std::collections::BTreeMap;

use events::{Gpa, Hpa, PageEvent, Seq, TimeNs, VcpuId};
use trace::{EntryRow, FaultRow, KeyframePage, MarkRow, PageRow, Record};

use super::{
    Anomalies, Anomaly, AnomalyKind, KeyframeCheck, PageInfo, ReplayOptions, ShadowTables,
    keyframes::{Arriving, Mark},
};

/// Name of a keyframe's row in `marks`.
const KEYFRAME: &str = "keyframe";
/// Keyframes whose results are kept; one a second makes this 18 hours.
const KEPT_CHECKS: usize = 1 << 16;

/// The root that a vCPU was last seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentRoot {
    /// The guest's CR3.
    pub cr3: Gpa,
    /// The shadow root.
    pub root: Hpa,
}

/// The replayed state of one VM.
#[derive(Clone, Debug, Default)]
pub struct VmReplay {
    options: ReplayOptions,
    tables: ShadowTables,
    roots: BTreeMap<VcpuId, CurrentRoot>,
    anomalies: Anomalies,
    arriving: Option<Arriving>,
    checks: Vec<KeyframeCheck>,
    /// Mark of the latest keyframe that was used.
    used: Option<Seq>,
}

impl VmReplay {
    pub(crate) fn new(options: ReplayOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// The tables as they are now.
    pub fn tables(&self) -> &ShadowTables {
        &self.tables
    }

    /// The root that each vCPU was last seen on.
    pub fn roots(&self) -> &BTreeMap<VcpuId, CurrentRoot> {
        &self.roots
    }

    /// Transitions that cannot have been.
    pub fn anomalies(&self) -> &Anomalies {
        &self.anomalies
    }

    /// What each keyframe showed.
    pub fn checks(&self) -> &[KeyframeCheck] {
        &self.checks
    }

    /// Mark of the latest keyframe that set or mended the tables.
    pub fn last_keyframe(&self) -> Option<Seq> {
        self.used
    }

    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Fault(row) => self.fault(row),
            Record::Entry(row) => self.entry(row),
            Record::Page(row) => self.page(row),
            Record::Root(row) => {
                self.roots.insert(
                    row.vcpu,
                    CurrentRoot {
                        cr3: row.cr3,
                        root: row.root,
                    },
                );
            }
            Record::Keyframe(page) => self.keyframe_page(page),
            Record::Mark(row) if row.name == KEYFRAME => self.keyframe_mark(row),
            Record::Mark(_) | Record::Write(_) | Record::Host(_) | Record::Loss(_) => {}
        }
    }

    fn note(&mut self, seq: Seq, time: TimeNs, place: Hpa, kind: Option<AnomalyKind>) {
        if let Some(kind) = kind {
            self.anomalies.add(Anomaly {
                seq,
                time,
                kind,
                place,
            });
        }
    }

    fn fault(&mut self, row: &FaultRow) {
        self.roots.insert(
            row.vcpu,
            CurrentRoot {
                cr3: row.cr3,
                root: row.root,
            },
        );
        let (Some(place), Some(spte)) = (row.sptep, row.spte) else {
            return;
        };
        let gfn = row.gpa.map(Gpa::gfn);
        let mut anomaly = self.tables.store(place, spte, gfn);
        if let Some(gfn) = gfn
            && spte.is_leaf(events::Level(1))
        {
            self.tables.adopt(spte.pfn(), gfn);
        }
        if let (None, Some(page), Some(level)) =
            (anomaly, self.tables.page(place.table()), row.level)
            && page.info.level != level
        {
            anomaly = Some(AnomalyKind::OtherLevel);
        }
        self.note(row.seq, row.time_ns, place, anomaly);
    }

    fn entry(&mut self, row: &EntryRow) {
        let mut anomaly = self.tables.store(row.sptep, row.spte, row.gfn);
        if let (None, Some(page)) = (anomaly, self.tables.page(row.sptep.table()))
            && page.info.level != row.level
        {
            anomaly = Some(AnomalyKind::OtherLevel);
        }
        self.note(row.seq, row.time_ns, row.sptep, anomaly);
    }

    fn page(&mut self, row: &PageRow) {
        let info = PageInfo {
            spt: row.spt,
            gfn: row.gfn,
            role: row.role,
            level: row.level,
            direct: row.direct != 0,
            unsync: row.unsync != 0,
        };
        let known = self.tables.page(row.spt).map(|page| page.info);
        let anomaly = match row.event {
            PageEvent::Born => self.tables.born(info, row.seq),
            PageEvent::Reused => match known {
                None => Some(AnomalyKind::UnknownPage),
                Some(known) => {
                    let same = known.gfn == info.gfn && known.role == info.role;
                    (!same).then_some(AnomalyKind::OtherRole)
                }
            },
            PageEvent::Unsync => self.tables.set_unsync(row.spt, true),
            PageEvent::Sync => {
                self.tables.write_protect(row.gfn);
                let synced = known.is_some_and(|known| !known.unsync);
                let unknown = self.tables.set_unsync(row.spt, false);
                unknown.or_else(|| synced.then_some(AnomalyKind::SyncOfSynced))
            }
            PageEvent::Zapped => {
                let twice =
                    self.tables.is_retired(row.spt) && row.role.is_invalid(&self.options.role);
                let zapped = self.tables.zap(row.spt);
                (!zapped && !twice).then_some(AnomalyKind::UnknownPage)
            }
        };
        self.note(row.seq, row.time_ns, row.spt, anomaly);
    }

    fn keyframe_page(&mut self, page: &KeyframePage) {
        let fresh = |arriving: &Arriving| arriving.number() != page.keyframe;
        if self.arriving.as_ref().is_none_or(fresh) {
            self.arriving = Some(Arriving::new(page.keyframe, page.seq));
        }
        if let Some(arriving) = &mut self.arriving {
            arriving.page(page, &self.tables);
        }
    }

    fn keyframe_mark(&mut self, row: &MarkRow) {
        let number = row.keyframe.unwrap_or_default();
        let arriving = self
            .arriving
            .take()
            .filter(|arriving| arriving.number() == number)
            .unwrap_or_else(|| Arriving::new(number, row.seq));
        let announced = u64::from(row.pages.unwrap_or_default());
        let trusted = self.used.is_some() || (self.options.from_birth && !self.tables.is_empty());
        let mark = Mark {
            seq: row.seq,
            time: row.time_ns,
            announced,
            after: self.used,
        };
        let check = arriving.close(mark, trusted, &mut self.tables);
        match check.used {
            super::KeyframeUse::Set => {
                self.anomalies.forget_unknown_pages();
                self.used = Some(row.seq);
            }
            super::KeyframeUse::Verified => self.used = Some(row.seq),
            super::KeyframeUse::Incomplete => {}
        }
        if self.checks.len() < KEPT_CHECKS {
            self.checks.push(check);
        }
    }
}
