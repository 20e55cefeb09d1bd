//! Finding what was asked for, and gathering what surrounds it.

use std::collections::BTreeMap;

use events::{Gpa, HostEvent, Hpa, Level, PageEvent, Seq, Spte, VcpuId, VmId};
use trace::{EntryRow, FaultRow, PageRow, Record, Trace};

use super::{
    Census, ExplainError, Explanation, PageChange, Period, Selector, Store, Told, Unsynced,
    act::Act,
    ahead, change,
    change::Change,
    guest::{self, guest_walk},
    history::{History, Writer},
    life::{Watch, feed},
    select::own_work,
};
use crate::{
    replay::{Gaps, Replay, Walk},
    study::replay_options,
};

/// Page events kept for a vCPU between two faults.
const MAX_CHANGES: usize = 64;

/// Finds something of `vm`. `progress` gets the number of records read so far, now and then.
pub fn find(
    trace: &Trace,
    vm: VmId,
    selector: Selector,
    progress: &mut dyn FnMut(u64),
) -> Result<Told, ExplainError> {
    if let Selector::Page(spt, _) = selector {
        return life(trace, vm, spt, selector, progress);
    }
    let mut finder = Finder::new(trace, vm, selector);
    if let Selector::Class(class, None) = selector {
        finder.preferred = own_work(trace, vm, class)?;
    }
    let mut records = trace.records();
    let mut read = 0;
    for record in records.by_ref() {
        let record = record?;
        read += 1;
        if u64::is_multiple_of(read, 1 << 16) {
            progress(read);
        }
        let Some(found) = finder.next(&record) else {
            continue;
        };
        let start_ns = trace.span_ns().map_or(0, |[start, _]| start);
        // Damage further on does not matter: what was asked for is told.
        let later = records
            .map_while(Result::ok)
            .filter(|record| record.vm() == vm);
        let later = later.filter(|record| !matches!(record, Record::Loss(_)));
        return match found {
            Found::Fault(row, before) => {
                let mut explanation = finder.explanation(trace, row, before);
                explanation.start_ns = start_ns;
                let mut ahead = ahead::Ahead::new(explanation, &finder.history);
                let _ = later.take(ahead::LOOK_AHEAD).try_for_each(|record| {
                    ahead.see(&record);
                    (!ahead.is_done()).then_some(())
                });
                Ok(Told::Fault(Box::new(ahead.done())))
            }
            Found::Change(mut change) => {
                change.start_ns = start_ns;
                change.missing = finder.missing(change.row.seq);
                let mut ahead = change::Ahead::new(*change, finder.history.count);
                let _ = later.take(change::LOOK_AHEAD).try_for_each(|record| {
                    ahead.see(&record);
                    (!ahead.is_done()).then_some(())
                });
                Ok(Told::Change(Box::new(ahead.done())))
            }
            Found::Act(mut act) => {
                act.start_ns = start_ns;
                let _ = later.take(change::LOOK_AHEAD).try_for_each(|record| {
                    act.see(&record);
                    (!act.is_done()).then_some(())
                });
                Ok(Told::Act(act))
            }
            Found::Page(spt) => life(trace, vm, spt, selector, progress),
        };
    }
    Err(finder.nothing(trace))
}

/// The life of the page at `spt` that `selector` means.
fn life(
    trace: &Trace,
    vm: VmId,
    spt: Hpa,
    selector: Selector,
    progress: &mut dyn FnMut(u64),
) -> Result<Told, ExplainError> {
    let mut watch = Watch::new(spt);
    let mut replay = Replay::new(replay_options(trace));
    let mut history = History::default();
    let mut gaps = Gaps::default();
    let mut census = Census::default();
    let mut read = 0;
    for record in trace.records() {
        let record = record?;
        read += 1;
        if u64::is_multiple_of(read, 1 << 16) {
            progress(read);
        }
        if matches!(record, Record::Loss(_)) {
            continue;
        }
        gaps.observe(record.seq(), record.time());
        if record.vm() == vm {
            census.add(&record);
            feed(&mut watch, &record, &mut replay, &mut history);
        }
    }
    let (lives, total) = watch.done();
    let life = lives.into_iter().find(|life| match selector {
        Selector::Seq(seq) => life.has(seq),
        _ => life.number == selector.nth(),
    });
    let Some(mut life) = life else {
        return Err(nothing(trace, selector, total, &census));
    };
    life.start_ns = trace.span_ns().map_or(0, |[start, _]| start);
    let until = life.end.as_ref().map_or(Seq(u64::MAX), |end| end.at.seq);
    life.missing = gaps.missing_between(life.first.seq, until);
    Ok(Told::Life(Box::new(life)))
}

fn nothing(trace: &Trace, selector: Selector, matching: u64, census: &Census) -> ExplainError {
    ExplainError::NoSuch {
        wanted: selector.not_there(matching),
        choice: census.choice(selector),
        hint: selector.hint(matching, &trace.meta().probes),
    }
}

/// What was asked for, with what must be read before it takes effect.
enum Found {
    /// With the entry that stood in its leaf's place.
    Fault(Box<FaultRow>, Option<Spte>),
    Change(Box<Change>),
    Act(Box<Act>),
    Page(Hpa),
}

struct Finder {
    vm: VmId,
    selector: Selector,
    /// The fault that is meant, where it is known beforehand.
    preferred: Option<Seq>,
    replay: Replay,
    gaps: Gaps,
    changes: BTreeMap<VcpuId, Vec<(PageChange, PageRow)>>,
    history: History,
    census: Census,
    matching: u64,
}

impl Finder {
    fn new(trace: &Trace, vm: VmId, selector: Selector) -> Self {
        Self {
            vm,
            selector,
            preferred: None,
            replay: Replay::new(replay_options(trace)),
            gaps: Gaps::default(),
            changes: BTreeMap::new(),
            history: History::default(),
            census: Census::default(),
            matching: 0,
        }
    }

    fn nothing(self, trace: &Trace) -> ExplainError {
        nothing(trace, self.selector, self.matching, &self.census)
    }

    /// Applies a record; gives it back if it is the one, with what its effect would hide.
    fn next(&mut self, record: &Record) -> Option<Found> {
        if matches!(record, Record::Loss(_)) {
            return None;
        }
        self.gaps.observe(record.seq(), record.time());
        if record.vm() != self.vm {
            return None;
        }
        self.census.add(record);
        let found = self.is_meant(record).then(|| self.found(record));
        self.replay.apply(record);
        if found.is_some() {
            if let Record::Page(row) = record {
                self.change(row);
            }
            return found;
        }
        self.history.see(record);
        match record {
            Record::Fault(row) => {
                self.changes.remove(&row.vcpu);
            }
            Record::Page(row) => self.change(row),
            _ => {}
        }
        None
    }

    fn is_meant(&mut self, record: &Record) -> bool {
        if !self.selector.matches(record) {
            return false;
        }
        self.matching += 1;
        match self.preferred {
            Some(seq) => record.seq() == seq,
            None => self.matching == self.selector.nth().saturating_add(1),
        }
    }

    fn found(&self, record: &Record) -> Found {
        let replay = self.replay.vm(self.vm);
        match record {
            Record::Fault(row) => {
                let before = row.sptep.and_then(|place| replay?.tables().entry(place));
                Found::Fault(Box::new(row.clone()), before)
            }
            Record::Entry(row) => Found::Change(Box::new(Change::new(row, replay, &self.history))),
            Record::Page(row) => Found::Page(row.spt),
            _ => Found::Act(Box::new(Act::new(record, replay, &self.history))),
        }
    }

    fn change(&mut self, row: &PageRow) {
        let Some(vcpu) = row.vcpu else { return };
        let stores = self.history.stores_since_use(row.gfn);
        let changes = self.changes.entry(vcpu).or_default();
        if changes.len() < MAX_CHANGES {
            changes.push((PageChange::new(row, stores), row.clone()));
        }
    }

    fn missing(&self, until: Seq) -> u64 {
        let replay = self.replay.vm(self.vm);
        let since = replay.and_then(|vm| vm.last_keyframe()).unwrap_or(Seq(0));
        self.gaps.missing_between(since, until)
    }

    fn walk(&self, row: &FaultRow) -> Walk {
        match self.replay.vm(self.vm) {
            Some(vm) => vm.walk(row.root, row.gva),
            None => Walk {
                root: row.root,
                steps: Vec::new(),
                mapping: None,
            },
        }
    }

    /// The record that emptied the fault's entry, if its page was not made since.
    fn emptied(&self, fault: &FaultRow, born: Seq) -> Option<EntryRow> {
        let row = self.history.stores.emptied(fault.sptep?)?;
        (row.seq >= born).then(|| row.clone())
    }

    fn explanation(
        &mut self,
        trace: &Trace,
        fault: Box<FaultRow>,
        before: Option<Spte>,
    ) -> Explanation {
        let replay = self.replay.vm(self.vm);
        let mut shadows_of_frame = Vec::new();
        if let (Some(replay), Some(gfn)) = (replay, guest::gpa(&fault).map(Gpa::gfn)) {
            let shadows = replay
                .tables()
                .pages()
                .filter(|page| !page.info.direct && page.info.gfn == gfn);
            shadows_of_frame = shadows
                .map(|page| (page.info.spt, page.info.level, page.info.unsync))
                .collect();
            shadows_of_frame.sort();
        }
        let stored = |gpa| self.history.stores.at(gpa).cloned();
        let stores: Vec<(Level, Store)> = guest_walk(&fault)
            .iter()
            .filter_map(|step| {
                let store: Store = stored(step.place()?)?;
                // Once a table is not shadowed, stores to it are not seen: the latest may be older.
                store.is_kept_by(step.gpte).then_some((step.level, store))
            })
            .collect();
        let shadow = self.walk(&fault);
        let leaf = shadow.mapping.and_then(|_| {
            let step = shadow.steps.last()?;
            Some(Hpa(step.spt.0.wrapping_add(u64::from(step.index) * 8)))
        });
        let place = fault.sptep.or(leaf);
        let page = place.and_then(|place| replay?.tables().page(place.table()));
        let born = page.map_or(Seq(0), |page| page.since);
        let writer: Option<Writer> = place.and_then(|place| self.history.writer_of(place, born));
        let no_gpte = guest_walk(&fault).is_empty();
        let on_the_way = self.changes.remove(&fault.vcpu).unwrap_or_default();
        let unsync = on_the_way
            .iter()
            .filter(|(page, _)| page.event == PageEvent::Unsync);
        let frame = guest::gpa(&fault).map(Gpa::gfn);
        let act = self.history.act(&[HostEvent::Unmap], frame);
        let act = act.filter(|act| act.time_ns >= fault.time_ns);
        Explanation {
            is_unpaged: no_gpte
                && fault.sptep.is_some()
                && page.is_some_and(|page| page.info.direct),
            store: self.history.stores.of(&fault).cloned(),
            stores,
            emptied: self.emptied(&fault, born),
            index: self.history.count,
            start_ns: 0,
            phase: self.history.phase.clone(),
            vm: trace
                .meta()
                .vms
                .iter()
                .find(|vm| vm.vm == self.vm.0)
                .cloned(),
            shadow,
            before,
            writer,
            unsync: unsync
                .map(|(page, row)| Unsynced {
                    page: *page,
                    period: Period::begin(row),
                    changed: Vec::new(),
                    zapped: None,
                    is_over: false,
                })
                .collect(),
            zapped_after: Vec::new(),
            act: act.cloned(),
            reread: None,
            on_the_way: on_the_way.into_iter().map(|(page, _)| page).collect(),
            shadows_of_frame,
            followed: Vec::new(),
            missing: self.missing(fault.seq),
            fault: *fault,
        }
    }
}
