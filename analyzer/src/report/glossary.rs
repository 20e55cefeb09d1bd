//! What the words of a page mean, said once.

use events::Class;
use serde::Serialize;

use crate::{
    explain,
    faults::{FEW, FaultStep, SWITCHED_OUT, meaning_of_act},
    study::VmStudy,
    summary::VmSummary,
    top::By,
};

/// Words of one kind with their meanings.
#[derive(Clone, Debug, Serialize)]
pub struct Words {
    /// What they name.
    pub title: &'static str,
    /// Each with its meaning.
    pub words: Vec<(String, String)>,
}

/// The words that the part of a VM uses, without those of which it has none.
pub(super) fn glossary(of: &VmStudy, numbers: &VmSummary) -> Vec<Words> {
    if numbers.faults == 0 {
        return Vec::new();
    }
    let mut all = vec![
        words("Rules of the first lines", rules()),
        words("Numbers", shares(numbers)),
        words("Classes of faults", classes(of)),
        words("Steps of a fault", steps(of)),
        words("Acts of KVM", acts(numbers)),
        words("Why a fault was needed", needs(numbers)),
        words("Why entries change", causes(of)),
        words("Shadow pages", pages(of)),
    ];
    all.retain(|of| !of.words.is_empty());
    all
}

fn words(
    title: &'static str,
    words: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
) -> Words {
    let words = words.into_iter();
    Words {
        title,
        words: words.map(|(word, of)| (word.into(), of.into())).collect(),
    }
}

fn rules() -> [(&'static str, &'static str); 3] {
    [
        (
            "costs most",
            "the class with the most time in its faults, without those whose thread was switched \
             out; named with its longest step, unless that class has such faults",
        ),
        (
            "most is paid by",
            "of all keys (cause, cr3, symbol, rip, range of GVAs, guest table, shadow page), the \
             one whose first has the largest share; a vCPU, a memslot or a cause that was not seen \
             only if nothing else is known",
        ),
        (
            "pathology",
            "a pattern that occurs more often than its threshold (see the method, at the end); the \
             costliest comes first",
        ),
    ]
}

fn shares(numbers: &VmSummary) -> Vec<(&'static str, &'static str)> {
    let is_switched = numbers
        .ranks
        .iter()
        .any(|rank| rank.all.switched_out_ns > 0);
    let mut all = vec![
        (
            "share",
            "of classes, of the time in all faults of this VM; of those who pay, of the same \
             without faults whose thread was switched out",
        ),
        ("of class", "of the time in all faults of the class"),
        (
            "of run",
            "of the time from the VM's first record to its last moment, times its vCPUs; what no \
             fault has is not attributed",
        ),
        (
            "p5, p50, p95, p99",
            "the time that so many percent of the faults do not exceed, always that of a fault",
        ),
        ("left out", FEW),
    ];
    if is_switched {
        let (word, meaning) = SWITCHED_OUT.split_once(": ").unwrap_or_default();
        all.push((word, meaning));
    }
    all
}

fn classes(of: &VmStudy) -> impl Iterator<Item = (&'static str, &'static str)> {
    let meaning = |class: Class| (class.name(), explain::meaning(class));
    of.timeline.classes().into_iter().map(meaning)
}

fn steps(of: &VmStudy) -> impl Iterator<Item = (String, &'static str)> {
    let has = |step: &FaultStep| {
        let mut steps = of.records.costs.iter().flat_map(|(_, cost)| &cost.steps);
        steps.any(|of| of.step == *step)
    };
    let steps = FaultStep::ALL.into_iter().filter(has);
    steps.map(|step| (step.label(), step.meaning()))
}

fn acts(numbers: &VmSummary) -> impl Iterator<Item = (&'static str, &'static str)> {
    let acts = numbers.acts.iter().flat_map(|acts| acts.keys());
    acts.filter_map(|name| Some((*name, meaning_of_act(events::Act::from_name(name)?))))
}

/// As the table by cause has them.
fn needs(numbers: &VmSummary) -> impl Iterator<Item = (&str, &str)> {
    let ranks = numbers.ranks.iter().filter(|rank| rank.by == By::Cause);
    let payers = ranks.flat_map(|rank| &rank.payers);
    payers.map(|payer| (payer.name.as_str(), payer.about.as_str()))
}

fn causes(of: &VmStudy) -> impl Iterator<Item = (&'static str, &'static str)> {
    let causes = of.timeline.causes().into_iter();
    causes.map(|cause| (cause.name(), explain::why(cause).clause))
}

fn pages(of: &VmStudy) -> Vec<(&'static str, &'static str)> {
    if of.memory.peak().pages == 0 {
        return Vec::new();
    }
    vec![
        (
            "role",
            "KVM's word for how a page is used: its level, what the path to it allows, the mode of \
             the guest's paging. KVM has a page for each role of a guest table; pages of one role \
             are found again",
        ),
        (
            "access",
            "what the path from the root to the page allows: w write, x execute, u user",
        ),
        ("indirect", "it shadows a table of the guest"),
        (
            "direct",
            "it maps frames without a table of the guest: below a large page of the guest, or while \
             the guest does not page",
        ),
        (
            "unsync",
            "the guest may store to the table without an exit; KVM compares it at the next sync",
        ),
        ("own, shared", "pages that one root leads to, or several"),
    ]
}
