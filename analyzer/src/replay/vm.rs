//! One VM: its tables, its vCPUs' roots, its keyframes.

use std::collections::BTreeMap;

use events::{
    Cause, Gpa, Gva, HostEvent, Hpa, Level, PageEvent, RoleLayout, Seq, Spte, TimeNs, VcpuId,
};
use trace::{
    EntryRow, FaultRow, HostRow, KeyframeMark, KeyframePage, MarkRow, PageRow, Record, RootRow,
};

use super::{
    Anomalies, Anomaly, AnomalyKind, Checks, DifferenceKind, KeyframeUse, LOWEST_ROOT, PageInfo,
    Pdptes, ReplayOptions, SeqTime, ShadowTables,
    drift::compare,
    keyframes::{Arriving, Mark},
    pae::{self, PaeRoots},
    rereads::{Frames, Rereads},
};

/// The root that a vCPU was last seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentRoot {
    /// The guest's CR3.
    pub cr3: Gpa,
    /// The shadow root.
    pub root: Hpa,
    /// Its level, where a record of the switch has it.
    pub level: Option<Level>,
}

impl CurrentRoot {
    /// By a row of `roots`.
    fn of(row: &RootRow) -> (VcpuId, Self) {
        let root = Self {
            cr3: row.cr3,
            root: row.root,
            level: Some(row.level),
        };
        (row.vcpu, root)
    }
}

/// The replayed state of one VM.
#[derive(Clone, Debug, Default)]
pub struct VmReplay {
    options: ReplayOptions,
    tables: ShadowTables,
    roots: BTreeMap<VcpuId, CurrentRoot>,
    pae: PaeRoots,
    anomalies: Anomalies,
    rereads: Rereads,
    arriving: Option<Arriving>,
    checks: Checks,
    /// Mark of the latest keyframe that was used.
    used: Option<SeqTime>,
}

impl VmReplay {
    pub(crate) fn new(options: ReplayOptions) -> Self {
        Self {
            options,
            tables: ShadowTables::new(options.sees_every_change),
            ..Self::default()
        }
    }

    /// Where role words have what.
    pub fn role_layout(&self) -> &RoleLayout {
        &self.options.role
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

    /// Whether a vCPU has ever run on a PAE root.
    pub fn has_run_on_pae_roots(&self) -> bool {
        self.pae.were_seen()
    }

    /// Transitions that cannot have been.
    pub fn anomalies(&self) -> &Anomalies {
        &self.anomalies
    }

    /// What an act of the host, before it is applied, takes away without a record of its own: the
    /// leaves of a range that is settled and that none has named since it was read again. By place,
    /// each as a row of `entries` would have it, with the number and the time of the act of the host
    /// that the range was read for; of an unknown one, with those of the record.
    pub(crate) fn gone(&self, row: &HostRow) -> Vec<EntryRow> {
        match row.event {
            HostEvent::Settled => self.rereads.gone(row, &self.tables),
            _ => Vec::new(),
        }
    }

    /// Leaves that `record`, which was just applied, took away without a record of their own: it gave
    /// their frame more than KVM keeps track of. By place, each as a row of `entries` would have it.
    pub(crate) fn recycled(&self, record: &Record) -> Vec<EntryRow> {
        let vcpu = match record {
            Record::Fault(row) => Some(row.vcpu),
            Record::Entry(row) => row.vcpu,
            // A keyframe sets the tables as they are.
            _ => return Vec::new(),
        };
        let rows = self.tables.recycled().iter().map(|leaf| EntryRow {
            seq: record.seq(),
            time_ns: record.time(),
            vm: record.vm(),
            vcpu,
            cause: Cause::Fault,
            sptep: leaf.place,
            spte: Spte(0),
            old: Some(leaf.spte),
            level: leaf.level,
            gfn: Some(leaf.gfn),
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| row.sptep);
        rows
    }

    /// The act of the host that a range is read again for.
    pub(crate) fn read_for(&self, range: &HostRow) -> Option<&HostRow> {
        self.rereads.read_for(range)
    }

    /// What each keyframe showed.
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Mark of the latest keyframe that set or mended the tables.
    pub fn last_keyframe(&self) -> Option<Seq> {
        self.used.map(|used| used.seq)
    }

    pub(crate) fn apply(&mut self, record: &Record) {
        self.tables.next_record();
        match record {
            Record::Fault(row) => self.fault(row),
            Record::Entry(row) => self.entry(row),
            Record::Page(row) => self.page(row),
            Record::Root(row) => match row.keyframe {
                Some(number) => self.arriving(number, row.seq).root(row),
                None => self.root(row),
            },
            Record::Keyframe(page) => self.keyframe_page(page),
            Record::Mark(row) => {
                if let Some(mark) = row.ends_keyframe() {
                    self.keyframe_mark(row, mark);
                }
            }
            Record::Host(row) => self.host(row),
            Record::Write(_) | Record::Act(_) | Record::Loss(_) => {}
        }
    }

    /// The latest keyframe that was used, if replay that begins with it continues as any other
    /// does: it has the roots of all vCPUs and the guest frame of every leaf.
    pub(crate) fn whole_since(&self) -> Option<Seq> {
        let whole = self.options.keyframe_roots && self.tables.knows_every_gfn();
        self.used.filter(|_| whole).map(|moment| moment.seq)
    }

    /// Whether the tables are known: from the VM's birth, or since the first keyframe.
    pub fn knows_the_beginning(&self) -> bool {
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
            self.pae.loaded(row);
        }
        self.roots.extend([CurrentRoot::of(row)]);
        // PAE roots and the empty one of a CR3 that points nowhere are no shadow pages.
        let known = self.tables.page(row.root.table());
        let other = known.is_some_and(|page| page.info.level != row.level);
        let anomaly = other.then_some(AnomalyKind::OtherLevel);
        self.note(row.seq, row.time_ns, row.root, anomaly);
    }

    /// The root that a fault was on.
    fn faulted_on(&mut self, row: &FaultRow) -> CurrentRoot {
        let (cr3, root) = (row.cr3, row.root);
        let before = self.roots.get(&row.vcpu);
        let level = before.filter(|before| before.root == root);
        let level = level.and_then(|before| before.level);
        let now = CurrentRoot { cr3, root, level };
        self.roots.insert(row.vcpu, now);
        now
    }

    /// Whether no record made the root that a leaf was stored for. One that was zapped since its
    /// switch may be in use still.
    fn has_no_record(&self, root: CurrentRoot) -> bool {
        root.level.is_some_and(|level| level >= LOWEST_ROOT)
            && self.tables.page(root.root.table()).is_none()
            && !self.tables.is_retired(root.root.table())
    }

    /// Whether the leaf just stored lets the guest write one of its upper tables.
    ///
    /// KVM tracks writes to those for as long as it shadows them, obsolete pages included, and both
    /// the making of the page and the store of the leaf are recorded under `mmu_lock`. Not so for
    /// leaf tables: an obsolete page no longer keeps its table from going unsync. Left out: large
    /// leaves, direct pages (`fast_page_fault` does not take the lock), and VMs found running, which
    /// may have a second address space (SMM) in which the frame is another page.
    fn opens_a_table(&self, place: Hpa, spte: Spte) -> bool {
        if !self.options.from_birth || !spte.is_writable() || !spte.is_leaf(Level(1)) {
            return false;
        }
        let page = self.tables.page(place.table());
        let page = page.filter(|page| page.info.level == Level(1) && !page.info.direct);
        let gfn = page.and_then(|page| page.leaf_gfn(place.index()));
        gfn.is_some_and(|gfn| self.tables.is_upper_table(gfn))
    }

    fn fault(&mut self, row: &FaultRow) {
        let root = self.faulted_on(row);
        let (Some(place), Some(spte)) = (row.sptep, row.spte) else {
            return;
        };
        let gfn = row.gpa.map(Gpa::gfn);
        self.rereads.named(place);
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
        if anomaly.is_none() && self.opens_a_table(place, spte) {
            anomaly = Some(AnomalyKind::WritableTable);
        }
        self.note(row.seq, row.time_ns, place, anomaly);
        if self.has_no_record(root) {
            let unknown = Some(AnomalyKind::UnknownRoot);
            self.note(row.seq, row.time_ns, row.root, unknown);
        }
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
        self.rereads.named(row.sptep);
        let Some((level, before)) = before else {
            self.entry_of_no_page(row);
            return;
        };
        let mut anomaly = self.tables.store(row.sptep, row.spte, row.gfn);
        // Where links are read from the path of a fault that was given up, no lock is held.
        let unlocked = row.cause == Cause::Link && !self.options.sees_every_change;
        if unlocked && anomaly == Some(AnomalyKind::LinkToZappedTable) {
            anomaly = None;
        }
        if anomaly.is_none() && level != row.level {
            anomaly = Some(AnomalyKind::OtherLevel);
        }
        if let (None, Some(old)) = (anomaly, row.old) {
            // A rule of replay may have made the change already: then the entry has the new value.
            let agrees = same(before, old) || same(before, row.spte);
            anomaly = (!agrees).then_some(AnomalyKind::OtherOld);
        }
        // What was read without the lock may have been stored long before.
        let by_lock = row.cause != Cause::Reread;
        if anomaly.is_none() && by_lock && self.opens_a_table(row.sptep, row.spte) {
            anomaly = Some(AnomalyKind::WritableTable);
        }
        self.note(row.seq, row.time_ns, row.sptep, anomaly);
    }

    fn entry_of_no_page(&mut self, row: &EntryRow) {
        // A page that was zapped may have become a PAE root since.
        if self.pae.take(row) {
            return;
        }
        let kind = if self.tables.is_retired(row.sptep.table()) {
            // A root in use is emptied entry by entry after the record of its zap, and what was
            // read without the lock may be of a page that was zapped meanwhile.
            let looked_again = matches!(
                row.cause,
                Cause::Link | Cause::GuestWrite | Cause::Sync | Cause::Invlpg | Cause::HostUnmap
            );
            let unlocked =
                row.cause == Cause::Reread || (!self.options.sees_every_change && looked_again);
            if !row.spte.is_shadow_present() || unlocked {
                return;
            }
            AnomalyKind::EntryInZappedPage
        } else {
            AnomalyKind::EntryInUnknownPage
        };
        self.note(row.seq, row.time_ns, row.sptep, Some(kind));
    }

    fn host(&mut self, row: &HostRow) {
        match row.event {
            HostEvent::Reread => self.rereads.open(Frames::of(row), &self.tables),
            HostEvent::Settled => {
                let read = self.rereads.settle(row, &mut self.tables);
                let anomaly = (!read).then_some(AnomalyKind::SettledUnread);
                self.note(row.seq, row.time_ns, Hpa(0), anomaly);
            }
            HostEvent::Unmap
            | HostEvent::DirtyStart
            | HostEvent::DirtyClear
            | HostEvent::DirtyStop
            | HostEvent::ZapRange
            | HostEvent::FlushSlot => self.rereads.act(row),
        }
    }

    fn page(&mut self, row: &PageRow) {
        let info = PageInfo::of(row);
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
            PageEvent::Unsync => match known {
                None => Some(AnomalyKind::UnknownPage),
                Some(known) => {
                    self.tables.set_unsync(row.spt, true);
                    if known.direct || known.level > Level(1) {
                        Some(AnomalyKind::UnsyncOfNoLeafTable)
                    } else {
                        known.unsync.then_some(AnomalyKind::UnsyncOfUnsync)
                    }
                }
            },
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
                // A root in use is zapped once more when it is freed, and its role says so.
                let twice = row.role.is_invalid(&self.options.role);
                let zapped = self.tables.zap(row.spt);
                (!zapped && !twice).then_some(AnomalyKind::UnknownPage)
            }
        };
        self.note(row.seq, row.time_ns, row.spt, anomaly);
    }

    /// Whether the tables should be complete, so that a keyframe verifies them.
    fn is_trusted(&self) -> bool {
        self.used.is_some() || (self.options.from_birth && !self.tables.is_empty())
    }

    /// The keyframe of this number, whose first record may be that of `seq`.
    fn arriving(&mut self, number: u32, seq: Seq) -> &mut Arriving {
        let trusted = self.is_trusted();
        let begin = || Arriving::new(number, seq, trusted, self.options.sees_every_change);
        let arriving = self.arriving.get_or_insert_with(begin);
        if arriving.number() != number {
            *arriving = begin();
        }
        arriving
    }

    fn keyframe_page(&mut self, page: &KeyframePage) {
        self.arriving(page.keyframe, page.seq);
        if let Some(arriving) = &mut self.arriving {
            arriving.page(page, &mut self.tables);
        }
    }

    fn keyframe_mark(&mut self, row: &MarkRow, ended: KeyframeMark) {
        self.arriving(ended.number, row.seq);
        let Some(mut arriving) = self.arriving.take() else {
            return;
        };
        let mark = Mark {
            seq: row.seq,
            time: row.time_ns,
            announced: u64::from(ended.pages),
            stopped_ns: ended.stopped_ns,
            after: self.used,
        };
        let roots = arriving.take_roots();
        let check = arriving.close(mark, &mut self.tables);
        if check.used != KeyframeUse::Incomplete {
            // It has every entry.
            self.rereads = Rereads::default();
            if self.options.keyframe_roots {
                self.pae.set_from(&roots);
                self.roots = roots.iter().map(CurrentRoot::of).collect();
            }
            self.used = Some(SeqTime {
                seq: row.seq,
                time: row.time_ns,
            });
        }
        self.checks.add(check);
    }
}

/// The same entry but for the bits that hardware sets by itself.
fn same(one: Spte, other: Spte) -> bool {
    compare(one, other).is_none_or(|kind| kind == DifferenceKind::AccessedDirty)
}
