//! The first screen: what was found, in a few sentences.

use crate::{
    faults::{ClassCost, total},
    refaults::RefaultCause,
    study::VmStudy,
    summary::VmSummary,
    text::{
        Cell,
        units::{ns, percent, plural},
    },
    top::{By, IN_USER_SPACE},
};

/// What the faults of a VM took, the costliest class, who pays most, what is wrong.
pub(super) fn answers(of: &VmStudy, numbers: &VmSummary) -> Vec<String> {
    let mut answers = vec![took(of, numbers)];
    answers.extend(costliest(of));
    answers.extend(payer(numbers));
    answers.push(wrong(numbers));
    answers
}

fn took(of: &VmStudy, numbers: &VmSummary) -> String {
    let faults = plural(numbers.faults, "fault");
    let all = total(of.records.costs.iter().map(|(_, cost)| cost.total_ns));
    match &of.account {
        _ if numbers.faults == 0 => "No fault was recorded.".to_owned(),
        Some(account) => format!(
            "{faults} took {}: {} of the run of {}.",
            ns(all),
            percent(all, account.total_ns),
            account.length()
        ),
        None => format!("{faults} took {}.", ns(all)),
    }
}

fn costliest(of: &VmStudy) -> Option<String> {
    let sum =
        |time: fn(&ClassCost) -> u64| total(of.records.costs.iter().map(|(_, cost)| time(cost)));
    let (total, own) = (sum(|cost| cost.total_ns), sum(ClassCost::own_ns));
    let (class, cost) = of
        .records
        .costs
        .iter()
        .max_by_key(|(_, cost)| cost.own_ns())?;
    let switched = total.saturating_sub(own);
    // The steps hold the switched-out time, too.
    let steps = cost.steps.iter().filter(|step| step.part_of.is_none());
    let step = steps.max_by_key(|step| step.total_ns);
    let step = step.filter(|_| cost.own_ns() == cost.total_ns);
    let step = step.map_or_else(String::new, |step| {
        let share = percent(step.total_ns, cost.total_ns);
        format!("; {share} of its time is the step {}", step.step.name())
    });
    let (class_word, of_time) = match switched {
        0 => ("Class".to_owned(), " of that time"),
        _ => {
            let switched = percent(switched, total);
            let words = format!(
                "Faults whose thread was switched out took {switched} of that time, with other \
                 work in it. Of the rest, class"
            );
            (words, "")
        }
    };
    Some(format!(
        "{class_word} {} costs most ({}): {}{of_time}, median {}{step}.",
        class.name(),
        crate::explain::meaning(*class),
        percent(cost.own_ns(), own),
        ns(cost.p50_ns),
    ))
}

/// The key with the largest share of all whose first payer does not have everything. A vCPU or a
/// memslot is no culprit, nor is a cause that was not seen: they come where nothing else is known.
fn payer(numbers: &VmSummary) -> Option<String> {
    let paying = numbers.ranks.iter().filter_map(|rank| {
        let payers = rank.payers.iter().filter(|payer| payer.sum.count > 0);
        let first = payers.clone().next()?;
        (payers.count() > 1).then_some((rank, first))
    });
    let share = |part: u64, whole: u64| u128::from(part) * 10_000 / u128::from(whole.max(1));
    let (rank, first) = paying.max_by_key(|(rank, first)| {
        let unseen = rank.by == By::Cause && first.key == RefaultCause::NotSeen.name();
        let is_culprit = !unseen && !matches!(rank.by, By::Vcpu | By::Slot);
        (is_culprit, share(first.sum.own_ns(), rank.all.own_ns()))
    })?;
    let about = match first.about.is_empty() {
        true => String::new(),
        false => format!(" ({})", first.about),
    };
    let (by, name) = (rank.by.name(), Cell::words(&first.name).text());
    // `slot 1`, `vCPU 0` say what they are.
    let who = match name.to_lowercase().starts_with(by) {
        _ if first.key == IN_USER_SPACE => "code in user space".to_owned(),
        true => name,
        false => format!("{by} {name}"),
    };
    let of_which = match rank.all.switched_out_ns {
        0 => "the time in faults",
        _ => "that rest",
    };
    Some(format!(
        "Most is paid by {who}{about}: {} of {of_which}.",
        Cell::Share(first.sum.own_ns(), rank.all.own_ns()).text(),
    ))
}

fn wrong(numbers: &VmSummary) -> String {
    let Some(first) = numbers.pathologies.first() else {
        return "No pathology was found.".to_owned();
    };
    let [one, part] = first.pathology.counted();
    let cost = first.cost_ns.map(|cost| format!(", cost {}", ns(cost)));
    let more = match numbers.pathologies.len() as u64 - 1 {
        0 => String::new(),
        more => format!("; {} more below", more),
    };
    format!(
        "Pathology {}: {}, {}{}: {}{more}.",
        first.pathology.name(),
        plural(first.count, one),
        plural(first.size, part),
        cost.unwrap_or_default(),
        first.culprit.text(),
    )
}
