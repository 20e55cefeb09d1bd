//! Finds what is asked for, and gathers its facts.

use events::{Hpa, Seq, Spte, VmId};
use trace::{FaultRow, Record, Trace, TraceError};

use super::{
    after,
    before::{Before, History, Lives, Recent},
    causes,
    explanation::{ExplainError, Explanation},
    facts::{ChangeFacts, FaultFacts, Kind, RecordFacts, RefaultFacts, gpa},
    own_work::own_work,
    select::{Census, Selector},
};
use crate::{
    refaults::{self, Options, Refaults},
    replay::{Gaps, RMAP_RECYCLE_THRESHOLD, Replay, VmReplay, is_unchanged},
    study::{Follow as _, Subject, replay_options},
};

/// Records between two reports of progress.
const PROGRESS: u64 = 1 << 16;

/// Finds something of `vm`. `progress` gets the number of records read so far, now and then.
pub fn find(
    trace: &Trace,
    vm: VmId,
    selector: Selector,
    progress: &mut dyn FnMut(u64),
) -> Result<Explanation, ExplainError> {
    if let Selector::Page(spt, _) = selector {
        return page(trace, vm, spt, selector, progress);
    }
    let mut finder = Finder::new(trace, vm, selector);
    if let Selector::Class(class, None) = selector {
        finder.preferred = own_work(trace, vm, class)?;
    }
    let start_ns = trace.span_ns().map_or(0, |[start, _]| start);
    let mut records = counted(trace, progress);
    let found = loop {
        let Some(record) = records.next() else {
            if let Selector::Cause(cause, None) = selector
                && finder.matching > 0
            {
                // None changed its entry.
                drop(records);
                return find(trace, vm, Selector::Cause(cause, Some(0)), progress);
            }
            return Err(nothing(trace, selector, finder.matching, &finder.census));
        };
        if let Some(found) = finder.next(&record?) {
            break found;
        }
    };
    // Damage after the record does not matter: the look-ahead ends there.
    let later = records.map_while(Result::ok);
    let later = later.filter(|record| record.vm() == vm && !matches!(record, Record::Loss(_)));
    let faults = finder.history.fault_count;
    Ok(match found {
        Found::Fault(row, before) => {
            let mut facts = finder.fault(trace, &row, before);
            facts.start_ns = start_ns;
            let gfn = gpa(&row).map(|gpa| gpa.gfn());
            let stores = gfn.map_or(0, |gfn| finder.history.stores_since_use(gfn));
            let about = (stores, refaults::acts_come_late(trace.meta()));
            after::fault(&mut facts, about, &finder.history, later);
            causes::of_fault(&mut facts);
            if finder.recycles(&row) {
                facts.recycled = refaults::of_act(trace, vm, row.seq)?;
            }
            Explanation::Fault(Box::new(facts))
        }
        Found::Change(mut facts) => {
            facts.start_ns = start_ns;
            facts.missing_records_since_keyframe = finder.missing(facts.row.seq);
            after::change(&mut facts, faults, later);
            causes::of_change(&mut facts);
            Explanation::Change(facts)
        }
        Found::Record(mut facts) => {
            facts.start_ns = start_ns;
            after::record(&mut facts, faults, later);
            if matches!(facts.record, Kind::Store { .. } | Kind::Host(_)) {
                facts.bill = refaults::of_act(trace, vm, facts.seq)?;
            }
            Explanation::Record(facts)
        }
        Found::Page(spt) => {
            drop(later);
            return page(trace, vm, spt, selector, progress);
        }
    })
}

/// Adds what the act of a change removed, and what came of it; of a page, where a record of it was
/// asked for. Reads the whole trace.
pub fn add_bill(
    of: &mut Explanation,
    trace: &Trace,
    vm: VmId,
    selector: Selector,
) -> Result<(), ExplainError> {
    let (seq, bill) = match (of, selector) {
        (Explanation::Page(page), Selector::Seq(seq)) => (seq, &mut page.bill),
        (Explanation::Change(change), _) => (change.row.seq, &mut change.bill),
        // It has that already, or is no act.
        _ => return Ok(()),
    };
    *bill = refaults::of_act(trace, vm, seq)?;
    Ok(())
}

/// All records, with progress.
fn counted<'a>(
    trace: &'a Trace,
    progress: &'a mut dyn FnMut(u64),
) -> impl Iterator<Item = Result<Record, TraceError>> + 'a {
    trace.records().zip(1_u64..).map(move |(record, read)| {
        if read.is_multiple_of(PROGRESS) {
            progress(read);
        }
        record
    })
}

/// The life of the page at `spt` that `selector` means.
fn page(
    trace: &Trace,
    vm: VmId,
    spt: Hpa,
    selector: Selector,
    progress: &mut dyn FnMut(u64),
) -> Result<Explanation, ExplainError> {
    let mut watched = Lives::new(spt);
    let mut replay = Replay::new(replay_options(trace));
    let mut history = History::default();
    let mut gaps = Gaps::of(trace);
    let mut census = Census::default();
    for record in counted(trace, progress) {
        let record = record?;
        if matches!(record, Record::Loss(_)) {
            continue;
        }
        gaps.observe(record.seq(), record.time());
        if record.vm() == vm {
            census.add(&record);
            watched.feed(&record, &mut replay, &mut history);
        }
    }
    let (lives, total) = watched.done();
    let life = lives.into_iter().find(|life| match selector {
        Selector::Seq(seq) => life.has(seq),
        _ => life.number == selector.nth(),
    });
    let Some(mut life) = life else {
        return Err(nothing(trace, selector, total, &census));
    };
    life.start_ns = trace.span_ns().map_or(0, |[start, _]| start);
    life.missing_records = gaps.missing_between(life.first.seq, life.until());
    life.never_unsync = causes::never_unsync(&life);
    Ok(Explanation::Page(Box::new(life)))
}

fn nothing(trace: &Trace, selector: Selector, matching: u64, census: &Census) -> ExplainError {
    ExplainError::NoSuch {
        wanted: selector.not_there(matching),
        choice: census.choice(selector),
        hint: selector.hint(matching, trace.meta().sees()),
        instead: census.instead(selector),
    }
}

/// What was asked for, as it is known before its record takes effect.
enum Found {
    /// With the entry in its leaf's place.
    Fault(Box<FaultRow>, Option<Spte>),
    Change(Box<ChangeFacts>),
    Record(Box<RecordFacts>),
    Page(Hpa),
}

struct Finder {
    vm: VmId,
    selector: Selector,
    /// The fault that is meant, where it is known beforehand.
    preferred: Option<Seq>,
    replay: Replay,
    gaps: Gaps,
    recent: Recent,
    history: History,
    census: Census,
    matching: u64,
    /// Why addresses fault again; only where a fault may be meant.
    refaults: Option<Refaults>,
}

impl Finder {
    fn new(trace: &Trace, vm: VmId, selector: Selector) -> Self {
        Self {
            vm,
            selector,
            preferred: None,
            replay: Replay::new(replay_options(trace)),
            gaps: Gaps::of(trace),
            recent: Recent::default(),
            history: History::default(),
            census: Census::default(),
            matching: 0,
            refaults: selector.may_be_fault().then(|| {
                let recording = trace.meta();
                let subject = Subject {
                    vm,
                    recording,
                    meta: recording.vms.iter().find(|of| of.vm == vm.0),
                    span_ns: trace.span_ns().unwrap_or_default(),
                };
                Refaults::new(&subject, Options::default())
            }),
        }
    }

    fn replay(&self) -> Option<&VmReplay> {
        self.replay.vm(self.vm)
    }

    fn before(&self) -> Before<'_> {
        Before {
            replay: self.replay(),
            history: &self.history,
        }
    }

    /// Applies a record. If it is the one, gives what its effect would hide.
    fn next(&mut self, record: &Record) -> Option<Found> {
        if matches!(record, Record::Loss(_)) {
            return None;
        }
        self.gaps.observe(record.seq(), record.time());
        if record.vm() != self.vm {
            return None;
        }
        self.census.add(record);
        if let Some(refaults) = &mut self.refaults {
            refaults.before(record, self.replay.vm(self.vm));
        }
        let found = self.is_meant(record).then(|| self.found(record)).flatten();
        if found.is_none() {
            self.history.see(record, self.replay.vm(self.vm));
        }
        self.replay.apply(record);
        if found.is_some() {
            return found;
        }
        if let Some(refaults) = &mut self.refaults {
            refaults.after(record, self.replay.vm(self.vm));
        }
        match record {
            Record::Fault(row) => _ = self.recent.take(row.vcpu),
            Record::Page(row) => self.recent.page(row, &self.history),
            _ => {}
        }
        None
    }

    fn is_meant(&mut self, record: &Record) -> bool {
        if !self.selector.matches(record) {
            return false;
        }
        self.matching += 1;
        if let (Selector::Cause(_, None), Record::Entry(row)) = (self.selector, record) {
            return !is_unchanged(row, self.replay());
        }
        match self.preferred {
            Some(seq) => record.seq() == seq,
            None => self.matching == self.selector.nth().saturating_add(1),
        }
    }

    fn found(&self, record: &Record) -> Option<Found> {
        Some(match record {
            Record::Fault(row) => {
                let tables = self.replay().map(|vm| vm.tables());
                let before = row.sptep.and_then(|place| tables?.entry(place));
                Found::Fault(Box::new(row.clone()), before)
            }
            Record::Entry(row) => Found::Change(Box::new(self.before().change(row))),
            Record::Page(row) => Found::Page(row.spt),
            _ => Found::Record(Box::new(self.before().record(record)?)),
        })
    }

    fn fault(&mut self, trace: &Trace, row: &FaultRow, before: Option<Spte>) -> FaultFacts {
        let mut vms = trace.meta().vms.iter();
        let vm = vms.find(|vm| vm.vm == self.vm.0);
        let pages = self.recent.take(row.vcpu);
        let mut facts = self.before().fault(row, vm, before, pages);
        facts.missing_records_since_keyframe = self.missing(row.seq);
        let refault = self.refaults.as_ref().and_then(Refaults::latest);
        facts.refault = refault.and_then(RefaultFacts::of);
        facts
    }

    /// Whether the leaf of a fault, which was just applied, is one more of its frame than KVM keeps
    /// track of.
    fn recycles(&self, row: &FaultRow) -> bool {
        let tables = self.replay().map(VmReplay::tables);
        let (Some(tables), Some(level), Some(gpa)) = (tables, row.level, gpa(row)) else {
            return false;
        };
        // Where each of those that go has its own record, they are still to come.
        tables.has_recycled() || tables.leaves_of(gpa.gfn(), level).len() > RMAP_RECYCLE_THRESHOLD
    }

    fn missing(&self, until: Seq) -> u64 {
        let since = self.replay().and_then(|vm| vm.last_keyframe());
        self.gaps.missing_between(since.unwrap_or(Seq(0)), until)
    }
}
