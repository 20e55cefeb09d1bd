//! What the refaults of each cause cost.

use events::{Class, Hpa, Seq};
use serde::Serialize;
use trace::FaultRow;

use super::{
    RefaultCause,
    act::{Act, Heavy, What},
};
use crate::{
    faults::{Paid, Sum, Worst, rank},
    replay::Gaps,
    text::units::{plural, whole},
};

/// Refaults that may lie over a gap, kept for each cause until all gaps are known: 16 bytes each.
const MAX_DOUBTFUL: usize = 1 << 18;

/// The refaults of one cause, while records are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Bill {
    pub(super) acts: u64,
    pub(super) pages: u64,
    pub(super) removed: u64,
    pub(super) weakened: u64,
    times: Vec<u64>,
    pub(super) sum: Sum,
    pub(super) later: u64,
    /// Act and refault, where a number between them had not come yet.
    doubtful: Vec<[Seq; 2]>,
    unkept: u64,
}

impl Bill {
    pub(super) fn add(&mut self, fault: &FaultRow) {
        // The same access faults once more, and that fault is handled.
        if fault.class != Class::Retried {
            self.times.push(fault.total_ns);
        }
        self.sum.add_fault(fault);
    }

    /// A refault and its act may lie on either side of a gap.
    pub(super) fn doubt(&mut self, act: Seq, fault: Seq) {
        match self.doubtful.len() < MAX_DOUBTFUL {
            true => self.doubtful.push([act, fault]),
            false => self.unkept += 1,
        }
    }

    /// Takes over what another had.
    pub(super) fn take(&mut self, other: Self) {
        self.acts += other.acts;
        self.pages += other.pages;
        self.removed += other.removed;
        self.weakened += other.weakened;
        self.times.extend(other.times);
        self.sum.add(&other.sum);
        self.later += other.later;
        for [act, fault] in other.doubtful {
            self.doubt(act, fault);
        }
        self.unkept += other.unkept;
    }

    fn close(&self, cause: RefaultCause, gaps: &Gaps) -> CauseBill {
        let mut times = self.times.clone();
        let middle = whole(rank(times.len() as f64, 0.5));
        let p50_ns = match times.is_empty() {
            true => None,
            false => usize::try_from(middle)
                .ok()
                .map(|middle| *times.select_nth_unstable(middle).1),
        };
        let over = self.doubtful.iter().filter(|pair| is_over(gaps, **pair));
        let unkept = if gaps.missing() > 0 { self.unkept } else { 0 };
        CauseBill {
            cause,
            meaning: cause.meaning(),
            acts: self.acts,
            pages_zapped: self.pages,
            entries_removed: self.removed,
            entries_weakened: self.weakened,
            refaults: self.sum.count,
            retried: self.sum.of_class(Class::Retried),
            emulated: self.sum.of_class(Class::WriteProtected),
            total_ns: self.sum.total_ns,
            switched_out_ns: self.sum.switched_out_ns,
            p50_ns,
            worst: self.sum.worst,
            refaults_after_window: self.later,
            refaults_over_gap: over.count() as u64 + unkept,
        }
    }
}

/// Whether a number is missing between two.
pub(super) fn is_over(gaps: &Gaps, [act, fault]: [Seq; 2]) -> bool {
    gaps.is_missing_between(act, fault)
}

/// The bill of one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CauseBill {
    /// What removed or weakened the entries.
    pub cause: RefaultCause,
    /// In words.
    pub meaning: &'static str,
    /// How often it happened and removed or weakened an entry.
    pub acts: u64,
    /// Shadow pages zapped by it.
    pub pages_zapped: u64,
    /// Entries removed: leaves, and links to tables.
    pub entries_removed: u64,
    /// Leaves that lost a right.
    pub entries_weakened: u64,
    /// Faults on addresses that were mapped until then, within the window.
    pub refaults: u64,
    /// Of these, those that KVM gave up (`retried`): the guest's access faulted once more.
    pub retried: u64,
    /// Of `refaults`, those that KVM emulated (`write_protected`): they got no entry.
    pub emulated: u64,
    /// Time of the refaults, ns.
    pub total_ns: u64,
    /// Of that, those whose thread was switched out meanwhile: other work is in it.
    pub switched_out_ns: u64,
    /// Median time of those that KVM did not give up, ns; null without any.
    pub p50_ns: Option<u64>,
    /// The costliest of them.
    pub worst: Option<Worst>,
    /// Refaults that came after the window.
    pub refaults_after_window: u64,
    /// Of `refaults`, those with missing records between the act and the fault: something else may
    /// have caused them.
    pub refaults_over_gap: u64,
}

/// An act, and what it led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActBill {
    /// Its record, which `explain --seq` explains.
    pub seq: Seq,
    /// When, ns after the start of the trace.
    pub at_ns: u64,
    /// What it is to the entries that it removed.
    pub cause: RefaultCause,
    /// What was done.
    pub what: String,
    /// Shadow pages zapped.
    pub pages_zapped: u32,
    /// Entries removed.
    pub entries_removed: u32,
    /// Leaves that lost a right.
    pub entries_weakened: u32,
    /// Faults that came of it, within the window.
    pub refaults: u32,
    /// Their time, ns.
    pub total_ns: u64,
    /// Of that, those whose thread was switched out meanwhile: other work is in it.
    pub switched_out_ns: u64,
    /// The costliest of them.
    pub worst: Option<Worst>,
    /// Records are missing between it and its last refault.
    pub over_gap: bool,
}

impl ActBill {
    pub(super) fn of(act: &Act, start_ns: u64, gaps: &Gaps) -> Self {
        Self {
            seq: act.seq,
            at_ns: act.time.0.saturating_sub(start_ns),
            cause: act.cause,
            what: what(&act.what),
            pages_zapped: act.pages,
            entries_removed: act.removed,
            entries_weakened: act.weakened,
            refaults: act.refaults,
            total_ns: act.total_ns,
            switched_out_ns: act.switched_out_ns,
            worst: act.worst,
            over_gap: is_over(gaps, [act.seq, act.last]),
        }
    }
}

/// What was done, in words.
pub(super) fn what(what: &What) -> String {
    match what {
        What::Store(gpa) => format!("store to gpa {gpa}"),
        What::Table { gfn, level } => format!("level {level} table of gfn {gfn}"),
        What::Page { event, gfn, level } => {
            format!("level {level} page of gfn {gfn} {}", event.name())
        }
        What::Host {
            event,
            slot,
            gfn,
            pages,
        } => {
            let slot = slot.map_or_else(String::new, |slot| format!(" slot {}", slot.0));
            format!(
                "{}{slot} gfn {gfn}, {}",
                event.name(),
                plural(*pages, "frame")
            )
        }
        What::Entry(place) => format!("entry at {}", Hpa(place.0)),
        What::Frame(gfn) => format!("fault on gfn {gfn}"),
        What::Room { gva, cr3 } => format!("room for the fault at gva {gva} of cr3 {cr3}"),
    }
}

/// All acts of one kind that are worth a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeavyActs {
    /// How many.
    pub acts: u64,
    /// Shadow pages that they zapped.
    pub pages_zapped: u64,
    /// Faults that came of them.
    pub refaults: u64,
    /// Their time.
    pub paid: Paid,
    /// The largest act.
    pub most: Option<ActBill>,
}

impl HeavyActs {
    pub(super) fn of(heavy: &Heavy, start_ns: u64, gaps: &Gaps) -> Self {
        Self {
            acts: heavy.acts,
            pages_zapped: heavy.pages,
            refaults: heavy.refaults,
            paid: heavy.paid,
            most: heavy.most.map(|act| ActBill::of(&act, start_ns, gaps)),
        }
    }
}

/// The faults on a VM's memory, by why they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Faults of all classes but `guest` and `mmio`. Those that KVM emulated (`write_protected`) or
    /// could not handle (`failed`) got no entry.
    pub faults: u64,
    /// The address was mapped before: it is in a bill.
    pub refaults: u64,
    /// The address had not been mapped before, in this guest table and role.
    pub first: u64,
    /// The entry was there, with fewer rights than the access needed, and nothing had taken them.
    pub strengthened: u64,
    /// Nothing was missing: another vCPU was faster, or KVM emulated the access.
    pub nothing_missing: u64,
    /// The entry, or the path to it, went while KVM handled the fault: the access faulted once more.
    pub went_meanwhile: u64,
    /// Faults on guest tables beyond the number that is followed.
    pub not_followed: u64,
}

/// What `refaults --json` prints of a VM.
#[derive(Clone, Debug, Serialize)]
pub struct Refaulted {
    /// Faults by why the entry was missing.
    pub totals: Totals,
    /// Longest time from the act to the refault that is counted, ns; null for the whole trace.
    pub window_ns: Option<u64>,
    /// What the numbers of `causes` are of, in words, where not everything is asked for.
    pub counted: Option<&'static str>,
    /// Causes that removed something or have a refault, those that cost most first.
    pub causes: Vec<CauseBill>,
    /// The acts that cost most, the costliest first.
    pub acts: Vec<ActBill>,
    /// The acts that zapped most pages, the largest first.
    pub storms: Vec<ActBill>,
    /// Acts that were not kept apart; what they removed is `not_seen`.
    pub acts_not_kept: u64,
}

impl Refaulted {
    /// Of `cause`, if it removed something or has a refault.
    pub fn cause(&self, cause: RefaultCause) -> Option<&CauseBill> {
        self.causes.iter().find(|bill| bill.cause == cause)
    }

    pub(super) fn bills(bills: &[Bill], gaps: &Gaps) -> Vec<CauseBill> {
        let bills = RefaultCause::ALL.into_iter().zip(bills);
        let closed = bills.map(|(cause, bill)| bill.close(cause, gaps));
        let mut causes: Vec<_> = closed
            .filter(|bill| bill.acts + bill.refaults + bill.refaults_after_window > 0)
            .collect();
        let own_ns = |bill: &CauseBill| bill.total_ns.saturating_sub(bill.switched_out_ns);
        causes.sort_by_key(|bill| (std::cmp::Reverse(own_ns(bill)), bill.cause));
        causes
    }
}
