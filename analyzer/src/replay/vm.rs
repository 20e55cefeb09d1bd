//! One VM: its tables, its vCPUs' roots, its keyframes.

use std::collections::BTreeMap;

use events::{Gpa, Gva, Hpa, Level, PageEvent, Seq, Spte, TimeNs, VcpuId};
use trace::{EntryRow, FaultRow, KeyframePage, MarkRow, PageRow, Record, RootRow};

use super::{
    Anomalies, Anomaly, AnomalyKind, DifferenceKind, KeyframeCheck, KeyframeUse, PageInfo, Pdptes,
    ReplayOptions, ShadowTables,
    keyframes::{Arriving, Mark, compare},
    pae::{self, PaeRoots},
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
    pae: PaeRoots,
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
            tables: ShadowTables::new(options.told),
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

    /// Whether KVM may shadow a guest table now: it does, or what it had at the beginning is not
    /// known yet.
    pub fn may_shadow_tables(&self) -> bool {
        !self.knows_the_beginning() || self.tables.totals().indirect > 0
    }

    /// The PDPTEs of `root`, if it is a PAE root, which is no shadow page.
    pub fn pdptes(&self, root: Hpa) -> Option<&Pdptes> {
        self.pae.get(root)
    }

    /// Every PAE root, by address.
    pub fn pae_roots(&self) -> impl Iterator<Item = (Hpa, &Pdptes)> {
        self.pae.iter()
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

    pub(crate) fn resume(&mut self, roots: &BTreeMap<VcpuId, CurrentRoot>) {
        self.roots.extend(roots);
    }

    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Fault(row) => self.fault(row),
            Record::Entry(row) => self.entry(row),
            Record::Page(row) => self.page(row),
            Record::Root(row) => self.root(row),
            Record::Keyframe(page) => self.keyframe_page(page),
            Record::Mark(row) if row.name == KEYFRAME => self.keyframe_mark(row),
            Record::Mark(_) | Record::Write(_) | Record::Host(_) | Record::Loss(_) => {}
        }
    }

    /// The latest keyframe that was used, if replay that begins with it goes on as any other does:
    /// it told the guest frame of every leaf, and no PAE root, of which keyframes say nothing, was
    /// seen.
    pub(crate) fn whole_since(&self) -> Option<Seq> {
        let whole = self.tables.knows_every_gfn() && self.pae.iter().next().is_none();
        self.used.filter(|_| whole)
    }

    /// Whether the tables before the first keyframe are known: they were empty.
    fn knows_the_beginning(&self) -> bool {
        self.options.from_birth || self.used.is_some()
    }

    fn note(&mut self, seq: Seq, time: TimeNs, place: Hpa, kind: Option<AnomalyKind>) {
        let Some(kind) = kind else { return };
        if kind.needs_known_tables() && !self.knows_the_beginning() {
            return;
        }
        self.anomalies.add(Anomaly {
            seq,
            time,
            kind,
            place,
        });
    }

    fn root(&mut self, row: &RootRow) {
        if row.level == pae::LEVEL && self.tables.page(row.root.table()).is_none() {
            self.pae.seen(row.root);
        }
        self.roots.insert(
            row.vcpu,
            CurrentRoot {
                cr3: row.cr3,
                root: row.root,
            },
        );
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
            && spte.is_leaf(Level(1))
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
        if self.pae.get(row.root).is_some()
            && let Some(table) = self.below_root(place, row.gva)
        {
            self.pae.set(row.root, pae::index(row.gva.0), Some(table));
        }
    }

    /// The table of level 2 on the way to the leaf at `place`, if there is one way only.
    fn below_root(&self, place: Hpa, gva: Gva) -> Option<Hpa> {
        let table = self.tables.page(place.table())?.info;
        if table.level == Level(2) {
            return Some(table.spt);
        }
        let index = Level(2).index(gva);
        let parents = self.tables.parents(table.spt).iter();
        let mut ways = parents.filter(|parent| Some(parent.index()) == index);
        let way = ways.next()?.table();
        ways.next().is_none().then_some(way)
    }

    fn entry(&mut self, row: &EntryRow) {
        let before = self
            .tables
            .page(row.sptep.table())
            .map(|page| (page.info.level, page.entry(row.sptep.index())));
        let Some((level, before)) = before else {
            // A root in use is emptied entry by entry after its zap was told.
            let emptied =
                !row.spte.is_shadow_present() && self.tables.is_retired(row.sptep.table());
            if !emptied && !self.pae.take(row) {
                let unknown = Some(AnomalyKind::EntryInUnknownPage);
                self.note(row.seq, row.time_ns, row.sptep, unknown);
            }
            return;
        };
        let mut anomaly = self.tables.store(row.sptep, row.spte, row.gfn);
        if anomaly.is_none() && level != row.level {
            anomaly = Some(AnomalyKind::OtherLevel);
        }
        if let (None, Some(old)) = (anomaly, row.old) {
            // A rule of replay may have foreseen what the record tells: then the new value stands.
            let agrees = same(before, old) || same(before, row.spte);
            anomaly = (!agrees).then_some(AnomalyKind::OtherOld);
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
            PageEvent::Born => {
                self.pae.forget(row.spt);
                self.tables.born(info, row.seq)
            }
            PageEvent::Reused => match known {
                None => Some(AnomalyKind::UnknownPage),
                Some(known) => {
                    let same = known.gfn == info.gfn && known.role == info.role;
                    (!same).then_some(AnomalyKind::OtherRole)
                }
            },
            PageEvent::Unsync => self.tables.set_unsync(row.spt, true),
            PageEvent::Sync => match known {
                Some(known) => {
                    self.tables.write_protect(row.gfn);
                    self.tables.set_unsync(row.spt, false);
                    (!known.unsync).then_some(AnomalyKind::SyncOfSynced)
                }
                // Zapping an unsync page takes it off the list of those to be synced, no more.
                None if self.tables.is_retired(row.spt) => None,
                None => Some(AnomalyKind::UnknownPage),
            },
            PageEvent::Zapped => {
                // A root in use is zapped once more when it is let go, and says so.
                let twice = row.role.is_invalid(&self.options.role);
                let zapped = self.tables.zap(row.spt);
                (!zapped && !twice).then_some(AnomalyKind::UnknownPage)
            }
        };
        self.note(row.seq, row.time_ns, row.spt, anomaly);
    }

    /// Whether the tables are meant to be whole, so that a keyframe verifies them.
    fn is_trusted(&self) -> bool {
        self.used.is_some() || (self.options.from_birth && !self.tables.is_empty())
    }

    fn keyframe_page(&mut self, page: &KeyframePage) {
        let fresh = |arriving: &Arriving| arriving.number() != page.keyframe;
        if self.arriving.as_ref().is_none_or(fresh) {
            let trusted = self.is_trusted();
            self.arriving = Some(Arriving::new(page.keyframe, page.seq, trusted));
        }
        if let Some(arriving) = &mut self.arriving {
            arriving.page(page, &mut self.tables);
        }
    }

    fn keyframe_mark(&mut self, row: &MarkRow) {
        let number = row.keyframe.unwrap_or_default();
        let trusted = self.is_trusted();
        let arriving = self
            .arriving
            .take()
            .filter(|arriving| arriving.number() == number)
            .unwrap_or_else(|| Arriving::new(number, row.seq, trusted));
        let mark = Mark {
            seq: row.seq,
            time: row.time_ns,
            announced: u64::from(row.pages.unwrap_or_default()),
            after: self.used,
        };
        let check = arriving.close(mark, &mut self.tables);
        if check.used != KeyframeUse::Incomplete {
            self.used = Some(row.seq);
        }
        if self.checks.len() < KEPT_CHECKS {
            self.checks.push(check);
        }
    }
}

/// The same entry but for the bits that hardware sets by itself.
fn same(one: Spte, other: Spte) -> bool {
    compare(one, other).is_none_or(|kind| kind == DifferenceKind::AccessedDirty)
}
