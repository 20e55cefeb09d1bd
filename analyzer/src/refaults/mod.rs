//! Why addresses fault again.
//!
//! Each fault on an address that was mapped before is joined with the act that removed or weakened
//! its entry. An address is an entry of a guest's table in one role, at the addresses that the table
//! maps: so a shadow page that is zapped and made again is the same. Where an upper entry was
//! missing, its removal is the cause; where both were, the one that was first.
//!
//! ```text
//! cause     the causes
//! act       acts: what removed entries, what that cost
//! places    the entries of guest tables, and which act removed each
//! threads   what each thread is doing: a store, a sync, an act of the host, zaps
//! removals  what a record removes
//! faults    why a fault's entry was missing
//! late      acts that have their record after what they did
//! latest    the same of one fault, for whoever lists faults
//! other     the faults that are no refaults
//! bill      the sums, when all gaps are known
//! tables    the same as text
//! ```

mod act;
mod bill;
mod cause;
mod faults;
mod late;
mod latest;
mod other;
mod places;
mod removals;
mod tables;
mod threads;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use events::{PageEvent, Seq, TimeNs, VcpuId, VmId};
use trace::{FaultRow, Record, Sees, Trace, VmMeta};

pub use act::DISCARD_REFAULTS;
pub use bill::{ActBill, CauseBill, HeavyActs, Refaulted, Totals};
pub use cause::RefaultCause;
pub(crate) use late::{acts_come_late, came_of, left_guest, may_wait};
pub use latest::{Refault, Removal};
pub use other::Other;
pub use tables::{brief, details, section};

use act::{ActId, Effect, RemovalActs, What};
use bill::Bill;
use late::Late;
use places::{At, Loss, Places, State};
use threads::Thread;

use crate::{
    faults::{Sum, Worst, switched_out_ns},
    listing::FaultFilter,
    replay::{Gaps, VmReplay},
    study::{Follow, Study, StudyError, Subject},
    table::TableError,
};

/// What to count, and how much to list.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest time from the act to the refault, ns; `None` for the whole trace.
    pub window_ns: Option<u64>,
    /// Acts listed.
    pub top: usize,
    /// An act to give the bill of, whatever it cost.
    pub act: Option<Seq>,
    /// Faults that are counted.
    pub filter: FaultFilter,
}

/// Acts listed where nobody asks for another number.
pub const DEFAULT_TOP: usize = 10;

impl Default for Options {
    fn default() -> Self {
        Self {
            window_ns: None,
            top: DEFAULT_TOP,
            act: None,
            filter: FaultFilter::default(),
        }
    }
}

/// Joins the faults of a VM with what made them necessary.
#[derive(Clone, Debug)]
pub struct Refaults {
    options: Options,
    meta: Option<VmMeta>,
    start_ns: u64,
    from_birth: bool,
    invalid: events::RoleLayout,
    acts: RemovalActs,
    places: Places,
    threads: BTreeMap<Option<VcpuId>, Thread>,
    /// One for each cause, then those of zaps whose cause is not known yet.
    bills: Vec<Bill>,
    /// Of the latter, those that are not in use.
    free_bills: Vec<usize>,
    /// Refaults, those after the window included.
    refaults: u64,
    /// Faults that are no refaults, by [`Other`].
    others: [Sum; Other::ALL.len()],
    /// The record is in the stretch asked for.
    inside: bool,
    /// The next number, if none is missing.
    next: Seq,
    /// The record after the latest number that was missing when it should have come.
    hole: Seq,
    /// Of the latest record, if it is a refault.
    latest: Option<Refault>,
    /// An act of the host has its record after what it did.
    acts_come_late: bool,
    late: Late,
}

impl Follow for Refaults {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        self.number(record.seq());
        self.latest = None;
        self.inside = self.options.filter.window.admits(record);
        let Some(vm) = vm else { return };
        if shows_life(record) {
            self.acts.lives(record.seq());
        }
        match record {
            Record::Fault(row) => self.fault(row, vm),
            Record::Entry(row) => self.entry(row, vm),
            Record::Page(row) => self.page(row, vm),
            Record::Host(row) => self.host(row, vm),
            Record::Write(row) => self.write(row),
            Record::Root(_)
            | Record::Act(_)
            | Record::Mark(_)
            | Record::Keyframe(_)
            | Record::Loss(_) => {}
        }
    }

    fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        if let Some(vm) = vm {
            self.recycled(record, vm);
        }
    }

    fn finish(&mut self, _: Option<&VmReplay>, _: Sees) -> Result<(), StudyError> {
        let threads: Vec<_> = self.threads.keys().copied().collect();
        for thread in threads {
            self.give_up_zaps(thread);
        }
        self.end_waits();
        if self.outlives_the_recording() {
            self.acts.lives(Seq(u64::MAX));
        }
        self.acts.finish();
        Ok(())
    }
}

/// Whether it shows that a VM runs: at its end KVM zaps its pages, and nothing else happens.
fn shows_life(record: &Record) -> bool {
    match record {
        Record::Fault(_) => true,
        Record::Page(row) => row.event != PageEvent::Zapped,
        _ => false,
    }
}

impl Refaults {
    /// Nothing was read yet.
    pub fn new(subject: &Subject<'_>, options: Options) -> Self {
        Self {
            acts: RemovalActs::new(options.top, options.act),
            options,
            meta: subject.meta.cloned(),
            start_ns: subject.span_ns[0],
            from_birth: subject.recording.sees().from_birth,
            invalid: subject.recording.role_layout(),
            places: Places::default(),
            threads: BTreeMap::new(),
            bills: vec![Bill::default(); RefaultCause::ALL.len()],
            free_bills: Vec::new(),
            refaults: 0,
            others: Default::default(),
            inside: false,
            next: Seq(0),
            hole: Seq(0),
            latest: None,
            acts_come_late: acts_come_late(subject.recording),
            late: Late::default(),
        }
    }

    /// A moment of the filter that did not come.
    pub fn missing(&self) -> Option<TableError> {
        self.options.filter.window.missing()
    }

    /// The VM's metadata; absent for one that only records name.
    pub fn meta(&self) -> Option<&VmMeta> {
        self.meta.as_ref()
    }

    /// The sums, once all is read.
    pub fn bill(&self, gaps: &Gaps) -> Refaulted {
        let list = |top: act::Top| {
            let acts = top.sorted().into_iter();
            acts.map(|act| ActBill::of(&act, self.start_ns, gaps))
                .collect()
        };
        Refaulted {
            totals: self.totals(),
            window_ns: self.options.window_ns,
            counted: self.counted(),
            causes: Refaulted::bills(&self.bills, gaps),
            acts: list(self.acts.costly.clone()),
            storms: list(self.acts.storms.clone()),
            acts_not_kept: self.acts.unkept,
        }
    }

    /// What the numbers of causes are of, where not everything is asked for.
    fn counted(&self) -> Option<&'static str> {
        let filter = &self.options.filter;
        match (filter.window.is_whole(), filter.is_about_faults()) {
            (true, false) => None,
            (true, true) => Some(
                "acts, pages and entries are those of the whole trace, refaults those asked for",
            ),
            (false, false) => Some(
                "acts, pages, entries and refaults are those of the stretch asked for: a refault \
                 in it may come of an act before it",
            ),
            (false, true) => Some(
                "acts, pages and entries are all those of the stretch asked for, refaults those \
                 asked for in it: one may come of an act before it",
            ),
        }
    }

    fn totals(&self) -> Totals {
        let of = |other: Other| self.other(other).count;
        let [first, strengthened] = [Other::First, Other::Strengthened].map(of);
        let [nothing_missing, went_meanwhile] =
            [Other::NothingMissing, Other::WentMeanwhile].map(of);
        let not_followed = of(Other::NotFollowed);
        let others = first + strengthened + nothing_missing + went_meanwhile + not_followed;
        Totals {
            faults: self.refaults + others,
            refaults: self.refaults,
            first,
            strengthened,
            nothing_missing,
            went_meanwhile,
            not_followed,
        }
    }

    /// The faults that are no refaults, for one reason.
    pub fn other(&self, other: Other) -> &Sum {
        let [
            first,
            strengthened,
            nothing_missing,
            went_meanwhile,
            not_followed,
            needs_none,
        ] = &self.others;
        match other {
            Other::First => first,
            Other::Strengthened => strengthened,
            Other::NothingMissing => nothing_missing,
            Other::WentMeanwhile => went_meanwhile,
            Other::NotFollowed => not_followed,
            Other::NeedsNone => needs_none,
        }
    }

    /// The refaults of one cause.
    pub fn cause(&self, cause: RefaultCause) -> Option<&Sum> {
        self.bills.get(cause.index()).map(|bill| &bill.sum)
    }

    /// The act that the options name, if it removed something.
    pub fn act(&self, gaps: &Gaps) -> Option<ActBill> {
        let act = self.acts.asked.as_ref().filter(|act| !act.is_idle())?;
        Some(ActBill::of(act, self.start_ns, gaps))
    }

    /// Acts that zapped many pages.
    pub fn zap_storms(&self, gaps: &Gaps) -> HeavyActs {
        HeavyActs::of(&self.acts.zap_storms, self.start_ns, gaps)
    }

    /// Acts by which the host took memory away that the guest then used.
    pub fn discards(&self, gaps: &Gaps) -> HeavyActs {
        HeavyActs::of(&self.acts.discards, self.start_ns, gaps)
    }

    /// The latest record, if it was a fault on what an act had removed.
    pub fn latest(&self) -> Option<&Refault> {
        self.latest.as_ref()
    }

    /// Whether its VM ran when the recording ended. It may have idled since it zapped its pages.
    fn outlives_the_recording(&self) -> bool {
        // Who read its counters at the end looked at the VM.
        let ran = |meta: &VmMeta| meta.ended.is_none() && meta.counters_after.is_some();
        self.meta.as_ref().is_some_and(ran)
    }

    /// Takes note of numbers that are missing so far. Those of other VMs' records are, too: which
    /// gaps there are is known at the end.
    fn number(&mut self, seq: Seq) {
        if seq > self.next {
            self.hole = seq;
        }
        self.next = self.next.max(Seq(seq.0.saturating_add(1)));
    }

    fn thread(&mut self, vcpu: Option<VcpuId>) -> &mut Thread {
        self.threads.entry(vcpu).or_default()
    }

    fn bill_mut(&mut self, act: ActId) -> Option<(&mut act::Act, &mut Bill)> {
        let act = self.acts.get_mut(act)?;
        let bill = self.bills.get_mut(act.bill)?;
        Some((act, bill))
    }

    /// Opens an act.
    fn open(&mut self, at: (Seq, TimeNs), cause: RefaultCause, what: What) -> Option<ActId> {
        self.acts.open(at, cause, what)
    }

    /// An act removed an entry, or took rights from it.
    fn lose(&mut self, at: At, act: Option<ActId>, lost: Lost) {
        let large = matches!(lost, Lost::Removed { large: true });
        let Some(id) = act else {
            // No act is kept for it: a fault finds the entry missing, and nobody seen.
            return;
        };
        let before = self.places.state(at);
        if let State::Lost(loss) = before {
            if lost == Lost::Weakened || loss.act == id {
                return;
            }
            self.acts.release(loss.act);
        }
        self.acts.hold(id);
        self.places.set(at, State::Lost(Loss { act: id, large }));
        let effect = match lost {
            Lost::Removed { .. } => Effect::Removed,
            Lost::Weakened => Effect::Weakened,
        };
        let inside = self.inside;
        if let Some((act, bill)) = self.bill_mut(id) {
            act.does(effect, bill, inside);
        }
    }

    /// Whether a fault is asked for.
    fn is_meant(&self, fault: &FaultRow) -> bool {
        self.inside && self.options.filter.matches(fault)
    }

    /// A fault that is no refault.
    fn no_refault(&mut self, other: Other, fault: &FaultRow) {
        if self.is_meant(fault)
            && let Some(sum) = self.others.get_mut(other as usize)
        {
            sum.add_fault(fault);
        }
    }

    /// A fault came of an act, or of what is not seen.
    fn refault(&mut self, act: Option<ActId>, fault: &FaultRow) {
        let is_meant = self.is_meant(fault);
        self.refaults += u64::from(is_meant);
        // Also one that is not asked for: the act has no other record of what it removed.
        let waits = self.waits(fault, act);
        if is_meant && waits {
            self.latest = Some(Refault {
                cause: RefaultCause::NotSeen,
                removal: None,
                over_gap: self.hole > Seq(0),
                waits: true,
            });
        } else if is_meant {
            self.latest = self.add_refault(act, fault);
        }
    }

    /// Adds a refault to its bill. Gives it, if it came within the window.
    fn add_refault(&mut self, act: Option<ActId>, fault: &FaultRow) -> Option<Refault> {
        let (window, hole) = (self.options.window_ns, self.hole);
        let Some((act, bill)) = act.and_then(|act| self.bill_mut(act)) else {
            if let Some(bill) = self.bills.get_mut(RefaultCause::NotSeen.index()) {
                bill.add(fault);
                if hole > Seq(0) {
                    bill.doubt(Seq(0), fault.seq);
                }
            }
            return Some(Refault {
                cause: RefaultCause::NotSeen,
                removal: None,
                over_gap: hole > Seq(0),
                waits: false,
            });
        };
        let after = fault.time_ns.0.saturating_sub(act.time.0);
        if window.is_some_and(|window| after > window) {
            bill.later += 1;
            return None;
        }
        bill.add(fault);
        act.refaults = act.refaults.saturating_add(1);
        act.total_ns = act.total_ns.saturating_add(fault.total_ns);
        let switched_out_ns = switched_out_ns(fault);
        act.switched_out_ns = act.switched_out_ns.saturating_add(switched_out_ns);
        act.last = act.last.max(fault.seq);
        let worst = Worst {
            ns: fault.total_ns,
            seq: fault.seq,
        };
        Worst::add(&mut act.worst, worst);
        let latest = Refault {
            cause: act.cause,
            removal: Some(Removal::of(act)),
            over_gap: act.seq < hole,
            waits: false,
        };
        if latest.over_gap {
            let seq = act.seq;
            bill.doubt(seq, fault.seq);
        }
        Some(latest)
    }
}

/// What the act of one record removed, and what came of it; nothing if it removed nothing. Reads the
/// whole trace.
pub fn of_act(trace: &Trace, vm: VmId, seq: Seq) -> Result<Option<ActBill>, StudyError> {
    let options = Options {
        act: Some(seq),
        ..Options::default()
    };
    let make = |subject: &Subject<'_>| Refaults::new(subject, options.clone());
    let study = Study::with(trace, Some(vm), make, &mut |_| {})?;
    Ok(study.vms.get(&vm).and_then(|of| of.act(&study.gaps)))
}

/// What an entry lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// It is gone.
    Removed {
        /// It was a leaf above level 1.
        large: bool,
    },
    /// It is there, with fewer rights.
    Weakened,
}
