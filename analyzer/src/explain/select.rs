//! What is to be explained, and what a VM has to choose from.

use std::collections::BTreeMap;

use events::{Cause, Class, Gva, Hpa, Seq};
use trace::{Record, Sees};

use crate::text::units::{count, plural};

/// What to explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A fault by its number among the faults of the VM, from 0, in the order of the trace.
    Index(u64),
    /// The `nth` fault, from 0, on the 4 KiB page of an address.
    Gva(Gva, u64),
    /// The `nth` fault, from 0, of a class; `None`: the first one that is the workload's own work,
    /// and without one the first of all.
    Class(Class, Option<u64>),
    /// A change of an entry by its number among those of the VM, from 0.
    Change(u64),
    /// The `nth` record, from 0, of a cause; `None`: the first that changed its entry, and without
    /// one the first of all.
    Cause(Cause, Option<u64>),
    /// The record of this number, of any kind.
    Seq(Seq),
    /// The `nth` life, from 0, of the shadow page at an address.
    Page(Hpa, u64),
}

impl Selector {
    /// Whether a record is one of those meant, but for `nth`.
    pub(super) fn matches(self, record: &Record) -> bool {
        match (self, record) {
            (Selector::Index(_), Record::Fault(_)) | (Selector::Change(_), Record::Entry(_)) => {
                true
            }
            (Selector::Gva(gva, _), Record::Fault(row)) => row.gva.0 >> 12 == gva.0 >> 12,
            (Selector::Class(class, _), Record::Fault(row)) => row.class == class,
            (Selector::Cause(cause, _), Record::Entry(row)) => row.cause == cause,
            (Selector::Seq(seq), record) => record.seq() == seq,
            _ => false,
        }
    }

    /// Whether a fault may be meant.
    pub(super) fn may_be_fault(self) -> bool {
        match self {
            Selector::Index(_) | Selector::Gva(..) | Selector::Class(..) | Selector::Seq(_) => true,
            Selector::Change(_) | Selector::Cause(..) | Selector::Page(..) => false,
        }
    }

    /// Which of those that match, from 0.
    pub(super) fn nth(self) -> u64 {
        match self {
            Selector::Index(nth)
            | Selector::Gva(_, nth)
            | Selector::Change(nth)
            | Selector::Page(_, nth) => nth,
            Selector::Class(_, nth) | Selector::Cause(_, nth) => nth.unwrap_or(0),
            Selector::Seq(_) => 0,
        }
    }

    /// That it is not there, and how many are that match but for their number.
    pub(super) fn not_there(self, matching: u64) -> String {
        let (what, of) = match self {
            Selector::Index(index) => return format!("no fault {index}, counted from 0"),
            Selector::Change(index) => return format!("no change {index}, counted from 0"),
            Selector::Seq(seq) => return format!("no record of seq {}", seq.0),
            Selector::Gva(gva, _) => ("fault", format!("on the page of gva {gva}")),
            Selector::Class(class, _) => ("fault", format!("of class {}", class.name())),
            Selector::Cause(cause, _) => ("change", format!("of cause {}", cause.name())),
            Selector::Page(spt, _) => ("shadow page", format!("at {spt}")),
        };
        match matching {
            0 => format!("no {what} {of}"),
            _ => format!(
                "no number {} {of}: {}, counted from 0",
                self.nth(),
                plural(matching, what)
            ),
        }
    }

    /// Where changes of a cause are, if the recording does not see them as such.
    pub(super) fn hint(self, matching: u64, sees: Sees) -> &'static str {
        let host = [Cause::HostUnmap, Cause::DirtyLog, Cause::Memslot];
        match self {
            Selector::Cause(cause, _)
                if matching == 0 && !sees.every_change && host.contains(&cause) =>
            {
                "; this recording does not see every change: those that the host makes have cause \
                 reread"
            }
            _ => "",
        }
    }
}

/// How many records of what kind a VM has.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Faults by class.
    pub classes: BTreeMap<Class, u64>,
    /// Changes by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// Events of shadow pages.
    pub pages: u64,
    /// Lowest and highest number of a record.
    pub seqs: Option<[u64; 2]>,
}

impl Census {
    pub(super) fn add(&mut self, record: &Record) {
        let seq = record.seq().0;
        let [first, last] = self.seqs.unwrap_or([seq; 2]);
        self.seqs = Some([first.min(seq), last.max(seq)]);
        match record {
            Record::Fault(row) => *self.classes.entry(row.class).or_default() += 1,
            Record::Entry(row) => *self.causes.entry(row.cause).or_default() += 1,
            Record::Page(_) => self.pages += 1,
            _ => {}
        }
    }

    /// Faults of all classes.
    pub fn faults(&self) -> u64 {
        self.classes.values().sum()
    }

    /// Changes of all causes.
    pub fn changes(&self) -> u64 {
        self.causes.values().sum()
    }

    /// Arguments that select something in this VM, close to what was asked for.
    pub(super) fn instead(&self, selector: Selector) -> Option<String> {
        fn most<T: Copy>(of: &BTreeMap<T, u64>) -> Option<T> {
            let most = of.iter().max_by_key(|(_, count)| **count);
            most.map(|(kind, _)| *kind)
        }
        match selector {
            Selector::Index(_) | Selector::Gva(..) | Selector::Class(..) => {
                most(&self.classes).map(|class| format!("--class {}", class.name()))
            }
            Selector::Change(_) | Selector::Cause(..) => {
                most(&self.causes).map(|cause| format!("--cause {}", cause.name()))
            }
            Selector::Seq(_) => self.seqs.map(|[first, _]| format!("--seq {first}")),
            Selector::Page(..) => None,
        }
    }

    /// What there is to choose from, for a message.
    pub(super) fn choice(&self, selector: Selector) -> String {
        match selector {
            Selector::Index(_) | Selector::Gva(..) | Selector::Class(..) => {
                let classes = self.classes.iter().map(|(class, n)| (class.name(), *n));
                format!("it has {}", list(self.faults(), "faults", classes))
            }
            Selector::Change(_) | Selector::Cause(..) => {
                let causes = self.causes.iter().map(|(cause, n)| (cause.name(), *n));
                format!("it has {}", list(self.changes(), "changes", causes))
            }
            Selector::Seq(_) => match self.seqs {
                Some([first, last]) => format!(
                    "its records are numbered {first} to {last}, shared with other VMs, and with \
                     those that were lost"
                ),
                None => "it has no record".to_owned(),
            },
            Selector::Page(..) => format!(
                "it has {} events of shadow pages; the command `table` lists the pages of a moment",
                count(self.pages)
            ),
        }
    }
}

fn list(total: u64, what: &str, of: impl Iterator<Item = (&'static str, u64)>) -> String {
    let words: Vec<_> = of.map(|(name, n)| format!("{name} {}", count(n))).collect();
    match words.is_empty() {
        true => format!("no {what}"),
        false => format!("{} {what}: {}", count(total), words.join(", ")),
    }
}
