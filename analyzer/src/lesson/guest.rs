//! What one recording says of each step.

use events::{Seq, VmId};
use trace::{Host, Trace, TraceError};

use super::{
    answers, here,
    rows::{self, Row},
    scan::{self, Around},
};
use crate::{
    explain::{self, ExplainError, Explanation, Selector},
    text::plain,
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
    /// The access.
    pub access: String,
    /// Which fault the access was, and where the next one of it is shown.
    pub about: String,
    /// Where it was recorded.
    pub host: String,
    /// Address in each space: GVA, GPA, HVA, HPA.
    pub chain: [Address; 4],
    /// The access, then the five steps.
    pub views: [View; 6],
}

/// The address in one space.
#[derive(Clone, Debug)]
pub struct Address {
    /// Which space.
    pub space: &'static str,
    /// The address; absent where the fault got none.
    pub value: Option<String>,
    /// No record has it.
    pub is_computed: bool,
}

/// What a step shows of a guest.
#[derive(Clone, Debug)]
pub struct View {
    /// What is to be seen, in a sentence.
    pub here: String,
    /// The guest's table on the way of the address, from the root on.
    pub guest: Vec<Row>,
    /// The shadow table likewise.
    pub shadow: Vec<Row>,
    /// How many addresses are known then.
    pub known: usize,
    /// What KVM did.
    pub did: Vec<String>,
}

impl View {
    /// Some value is not from a record.
    pub fn is_computed(&self) -> bool {
        self.guest.iter().chain(&self.shadow).any(Row::is_computed)
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
    /// From the explanation of a fault, and what `trace` has beside it.
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
        let around = Around::of(trace, vm, facts)?;
        let guest = rows::guest(facts, &around);
        let shadow = rows::shadow(facts, &around);
        let said = [
            (
                here::zeroth(facts, &around),
                answers::zeroth(facts, &around),
            ),
            (here::first(facts), answers::first(facts, host, &around)),
            (here::second(facts), answers::second(facts)),
            (here::third(), answers::third(facts)),
            (
                here::fourth(facts, &guest[4], &shadow[4]),
                answers::fourth(facts, &around, &shadow[4]),
            ),
            (here::fifth(facts, &around), answers::fifth(facts, &around)),
        ];
        let mut tables = guest.into_iter().zip(shadow).zip([1, 2, 3, 4, 4, 4]);
        let views = said.map(|(here, did)| {
            let ((guest, shadow), known) = tables.next().unwrap_or_default();
            View {
                here,
                guest,
                shadow,
                known,
                did,
            }
        });
        let address = |space, value: Option<String>, is_computed| Address {
            space,
            value,
            is_computed,
        };
        Ok(Self {
            name: plain(name),
            access: here::access(facts),
            about: here::about(facts, &around),
            host: recorded_on(host),
            chain: [
                address("GVA", Some(row.gva.to_string()), false),
                address("GPA", row.gpa.map(|gpa| gpa.to_string()), false),
                address(
                    "HVA",
                    facts.hva().map(|hva| hva.to_string()),
                    row.hva.is_none(),
                ),
                address(
                    "HPA",
                    facts.hpa.map(|hpa| hpa.to_string()),
                    row.pfn.is_none() && facts.pfn_by_shadow.is_some(),
                ),
            ],
            views,
        })
    }

    /// What a step shows.
    pub fn view(&self, step: &usize) -> &View {
        &self.views[*step]
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
