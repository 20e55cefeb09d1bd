//! What made one fault necessary.

use events::{Gfn, Seq, TimeNs};

use super::{
    RefaultCause,
    act::{Act, What},
    bill::what,
};

/// Why a fault came on what was mapped before.
#[derive(Clone, Copy, Debug)]
pub struct Refault {
    /// What removed or weakened the entry, as far as it is known when the fault comes.
    pub cause: RefaultCause,
    /// The act that did; absent where no record shows it.
    pub removal: Option<Removal>,
    /// Records were missing between the two when the fault came: another act may have done it.
    pub over_gap: bool,
    /// An act of the host that has its record after the fault may be the cause.
    pub waits: bool,
}

impl Refault {
    /// The name of the cause: `zapped` where a page was zapped, and the records after the fault
    /// show what for; `later` where they show whether an act of the host was the cause.
    pub fn name(&self) -> &'static str {
        match (self.cause, self.removal) {
            (RefaultCause::NotSeen, Some(_)) => "zapped",
            (RefaultCause::NotSeen, None) if self.waits => "later",
            (cause, _) => cause.name(),
        }
    }
}

/// An act that removed or weakened entries.
#[derive(Clone, Copy, Debug)]
pub struct Removal {
    /// Its record, which `explain --seq` explains.
    pub seq: Seq,
    /// When.
    pub time: TimeNs,
    /// The guest table that it has to do with, if it names one.
    pub table: Option<Gfn>,
    what: What,
}

impl Removal {
    pub(super) fn of(act: &Act) -> Self {
        Self {
            seq: act.seq,
            time: act.time,
            table: act.table(),
            what: act.what,
        }
    }

    /// What was done, in words.
    pub fn what(&self) -> String {
        what(&self.what)
    }
}
