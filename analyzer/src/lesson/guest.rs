//! What one recording says of each step.

use events::{Seq, VmId};
use trace::{Host, Trace, TraceError};

use super::{
    answers,
    scan::{self, Later},
};
use crate::{
    explain::{self, ExplainError, Explanation, Selector},
    text::{plain, units::count},
};

/// Why there is no lesson.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LessonError {
    /// No such fault, or the trace could not be read.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// What was asked for is no fault.
    #[error("record {0} is no fault: the lesson is about one")]
    NoFault(u64),
    /// The fault came before the guest had page tables.
    #[error(
        "the guest had no page tables in record {0}, or their walk was not recorded: the lesson is \
         about a fault with both tables; without --seq one is chosen"
    )]
    Unpaged(u64),
    /// No fault has both tables.
    #[error(
        "no shadow fault of this recording has a walk of the guest's tables down to level 1: the \
         lesson is about such a fault; record a guest that runs with paging"
    )]
    NoWalk,
    /// The trace could not be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// One guest, and the fault that the lesson is about.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Name of the recording.
    pub name: String,
    /// Which fault, in one line.
    pub about: String,
    /// Where it was recorded.
    pub host: String,
    /// Entries that the walker read, from the root on.
    pub guest: Vec<Row>,
    /// The shadow entries on the same way.
    pub shadow: Vec<Row>,
    /// Address and frame of each space: GVA, GPA, HVA, HPA; absent where the fault got none.
    pub chain: Vec<(&'static str, Option<String>)>,
    /// What KVM did in each of the five steps, as text.
    pub did: [String; 5],
}

/// An entry of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Level of the table.
    pub level: u8,
    /// Its address.
    pub table: String,
    /// Which entry.
    pub index: u16,
    /// The entry.
    pub entry: String,
    /// What a later fault read there, if that differs: the fourth step.
    pub later: Option<String>,
    /// The step, from 1, that changes it; 0 for none.
    pub step: u8,
}

impl Row {
    /// The entry after a step.
    pub fn value(&self, step: &u8) -> &str {
        let later = self.later.as_ref().filter(|_| *step >= 4);
        later.unwrap_or(&self.entry)
    }

    /// Whether a step changes it.
    pub fn is_changed(&self, step: &u8) -> bool {
        self.step == *step || (*step == 4 && self.later.is_some())
    }
}

/// The shadow fault for the lesson: the first whose leaf entry a record shows the guest's store to;
/// without one, the first that is the workload's own work. It has both tables.
pub fn choose(trace: &Trace, vm: VmId) -> Result<Explanation, LessonError> {
    let chosen = scan::choose(trace, vm)?.ok_or(LessonError::NoWalk)?;
    Ok(explain::find(
        trace,
        vm,
        Selector::Seq(chosen),
        &mut |_| {},
    )?)
}

impl Guest {
    /// From the explanation of a fault, and what `trace` has after it.
    pub fn of(
        name: &str,
        trace: &Trace,
        vm: VmId,
        found: &Explanation,
        seq: Seq,
    ) -> Result<Self, LessonError> {
        let Explanation::Fault(facts) = found else {
            return Err(LessonError::NoFault(seq.0));
        };
        let row = &facts.row;
        if facts.guest_walk.is_empty() {
            return Err(LessonError::Unpaged(row.seq.0));
        }
        let host = &trace.meta().host;
        let later = Later::of(trace, vm, row)?;
        let stored = facts.entries_stored.iter().map(|stored| stored.level);
        let lowest = stored.min();
        let made = row.created;
        let leaf = row.level.map_or(0, |level| level.0);
        let guest = facts.guest_walk.iter().map(|step| Row {
            level: step.level.0,
            table: step
                .table
                .map_or_else(|| "?".to_owned(), |table| table.to_string()),
            index: step.index,
            entry: format!("{:#x}", step.gpte.0),
            later: later
                .read(step.level)
                .filter(|(_, read)| *read != step.gpte)
                .map(|(_, read)| format!("{:#x}", read.0)),
            // The others were stored for a fault before.
            step: u8::from(lowest == Some(step.level)),
        });
        let shadow = facts.shadow_walk.iter().map(|step| Row {
            level: step.level.0,
            table: step.spt.to_string(),
            index: step.index,
            entry: format!("{:#x}", step.spte.0),
            later: None,
            step: match u32::from(step.level.0) <= u32::from(leaf) + u32::from(made) {
                true => 4,
                false => 0,
            },
        });
        let after = row.time_ns.0.saturating_sub(facts.start_ns);
        Ok(Self {
            name: plain(name),
            about: format!(
                "Fault {} of the recording, record {}, {} after the start",
                count(facts.index),
                count(row.seq.0),
                crate::text::units::ns(after),
            ),
            host: recorded_on(host),
            guest: guest.collect(),
            shadow: shadow.collect(),
            chain: vec![
                ("GVA", Some(row.gva.to_string())),
                ("GPA", row.gpa.map(|gpa| gpa.to_string())),
                ("HVA", facts.hva().map(|hva| hva.to_string())),
                ("HPA", facts.hpa.map(|hpa| hpa.to_string())),
            ],
            did: [
                answers::first(facts, host, &later),
                answers::second(facts),
                answers::third(facts),
                answers::fourth(facts, &later),
                answers::fifth(facts, &later),
            ],
        })
    }

    /// What KVM did in a step, from 1.
    pub fn did_in(&self, step: &u8) -> &str {
        let at = usize::from(*step).checked_sub(1);
        at.and_then(|at| self.did.get(at)).map_or("", |did| did)
    }

    /// Where the address is known after a step: how many of [`Guest::chain`].
    pub fn known(&self, step: &u8) -> usize {
        match step {
            1 => 2,
            2 => 3,
            _ => 4,
        }
    }
}

fn recorded_on(host: &Host) -> String {
    let kvm = match host.hypervisor.as_str() {
        "kvm_pvm" => "KVM-PVM",
        "kvm_intel" => "KVM on Intel",
        "kvm_amd" => "KVM on AMD",
        other => other,
    };
    plain(&format!("Linux {}, {kvm}, {}", host.kernel, host.cpu))
}
