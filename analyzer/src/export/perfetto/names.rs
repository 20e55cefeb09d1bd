//! Names that every export has, written once and meant by numbers from then on.

use events::{Act, Class};

use super::proto::{InternedData, Name};
use crate::faults::FaultStep;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    Fault,
    Step,
    Act,
    Phase,
    Host,
    Keyframe,
    Removal,
    Lost,
}

/// Arguments of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    Seq,
    Gva,
    Gpa,
    ErrorCode,
    Rip,
    Symbol,
    Cr3,
    Sptep,
    Spte,
    Level,
    Errno,
    RemovedBy,
    RemovedSeq,
    RemovedOverGap,
    What,
    Synced,
    Zapped,
    Slot,
    Gfn,
    Pages,
    Records,
}

const CATEGORIES: [(Category, &str); 8] = [
    (Category::Fault, "fault"),
    (Category::Step, "step"),
    (Category::Act, "act"),
    (Category::Phase, "phase"),
    (Category::Host, "host"),
    (Category::Keyframe, "keyframe"),
    (Category::Removal, "removal"),
    (Category::Lost, "lost"),
];

/// The names of the trace's columns, and of what `export --to csv` adds to them.
const ARGS: [(Arg, &str); 21] = [
    (Arg::Seq, "seq"),
    (Arg::Gva, "gva"),
    (Arg::Gpa, "gpa"),
    (Arg::ErrorCode, "error_code"),
    (Arg::Rip, "rip"),
    (Arg::Symbol, "symbol"),
    (Arg::Cr3, "cr3"),
    (Arg::Sptep, "sptep"),
    (Arg::Spte, "spte"),
    (Arg::Level, "level"),
    (Arg::Errno, "errno"),
    (Arg::RemovedBy, "removed_by"),
    (Arg::RemovedSeq, "removed_seq"),
    (Arg::RemovedOverGap, "removed_over_gap"),
    (Arg::What, "what"),
    (Arg::Synced, "synced"),
    (Arg::Zapped, "zapped"),
    (Arg::Slot, "slot"),
    (Arg::Gfn, "gfn"),
    (Arg::Pages, "pages"),
    (Arg::Records, "records"),
];

impl Category {
    /// 0 means none.
    pub(super) const fn iid(self) -> u64 {
        self as u64 + 1
    }
}

impl Arg {
    pub(super) const fn iid(self) -> u64 {
        self as u64 + 1
    }
}

pub(super) const fn class_iid(class: Class) -> u64 {
    class as u64 + 1
}

/// Numbers of classes and acts are bytes: those of steps and acts come after.
pub(super) const fn step_iid(step: FaultStep) -> u64 {
    step as u64 + (1 << 9)
}

pub(super) const fn act_iid(act: Act) -> u64 {
    act as u64 + (2 << 9)
}

/// All of them.
pub(super) fn interned() -> InternedData {
    let name = |iid, name: &str| Name {
        iid: Some(iid),
        name: Some(name.to_owned()),
    };
    let classes = Class::ALL.map(|class| name(class_iid(class), class.name()));
    let steps = FaultStep::ALL.map(|step| name(step_iid(step), step.name()));
    let acts = Act::ALL.map(|act| name(act_iid(act), act.name()));
    InternedData {
        event_categories: CATEGORIES.map(|(of, text)| name(of.iid(), text)).to_vec(),
        event_names: classes.into_iter().chain(steps).chain(acts).collect(),
        debug_annotation_names: ARGS.map(|(of, text)| name(of.iid(), text)).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_has_its_number() {
        let names = interned();
        assert!((1..).zip(CATEGORIES).all(|(at, (of, _))| of.iid() == at));
        assert!((1..).zip(ARGS).all(|(at, (of, _))| of.iid() == at));
        let numbers: BTreeSet<_> = names.event_names.iter().map(|of| of.iid).collect();
        assert_eq!(numbers.len(), names.event_names.len());
    }
}
