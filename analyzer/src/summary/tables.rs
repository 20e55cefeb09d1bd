//! The summary as sentences and tables.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    LateSummary, RangeSummary, Summary, VmSummary,
    counters::{absent_probes, counters},
};
use crate::{
    faults::{Account, BetweenFaults, ClassCost, FEW, total},
    paper, pathologies, refaults,
    text::{
        Cell, Column, Document, Section, Table, plain,
        units::{count, mean, ns, percent, plural, since},
    },
    top,
};

/// Phases that people are shown.
const PHASES: usize = 40;

/// How much people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What matters.
    Brief,
    /// Everything.
    Full,
}

/// The summary, without the verdict that goes above it.
pub fn document(summary: &Summary, detail: Detail) -> Document {
    let mut sections: Vec<_> = summary
        .vms
        .iter()
        .map(|vm| section(summary, vm, detail))
        .collect();
    if summary.micro.is_some() {
        sections.push(Section {
            title: "Beside the PVM paper: compare proportions, not times".to_owned(),
            lines: summary.differs.iter().map(|line| plain(line)).collect(),
            tables: vec![paper::brief(summary.micro.as_ref())],
            ..Section::default()
        });
    }
    let mut tail = Vec::new();
    let absent = plural(summary.absent.len() as u64, "probe");
    match (summary.absent.is_empty(), detail) {
        (true, _) => {}
        (false, Detail::Brief) => {
            tail.push(format!("{absent} not attached; -v says why"));
        }
        (false, Detail::Full) => sections.push(Section {
            title: format!("{absent} not attached"),
            tables: vec![absent_probes(&summary.absent)],
            ..Section::default()
        }),
    }
    Document {
        head: vec![format!("{}: {}", plain(&summary.trace), summary.about)],
        sections,
        tail,
    }
}

fn section(summary: &Summary, vm: &VmSummary, detail: Detail) -> Section {
    let mut lines = Vec::new();
    if summary.come_and_go {
        lines.push(recorded(vm));
    }
    if vm.reconciliation.is_none() {
        lines.push("KVM's counters at the end are not in this trace: none is compared".to_owned());
    }
    lines.extend(vm.memory.map(|peak| peak.line()));
    Section {
        vm: Some(vm.vm),
        title: title(vm),
        lines,
        tables: vec![
            pathologies::brief(&vm.pathologies),
            classes(summary, vm, detail),
            times_of(vm),
            switched_out(vm),
            steps(summary, vm, detail),
            acts(summary, vm, detail),
            clock(summary, vm),
            top::brief(&vm.ranks),
            changes(vm, detail),
            refaults(vm),
            range(vm),
            phases(summary, vm),
            late(&vm.drift.late),
            counters(vm.reconciliation.as_deref().unwrap_or_default(), detail),
        ],
    }
}

/// The bill of each cause of refaults; blank where none was made.
pub fn refaults(vm: &VmSummary) -> Table {
    let bill = vm.refaults.as_ref().map(refaults::brief);
    bill.unwrap_or_else(|| Table::new("refaults", "", []))
}

/// Which VM it is.
pub fn title(vm: &VmSummary) -> String {
    let faults = plural(vm.faults, "fault");
    format!("VM {} ({}): {faults}", vm.vm, vm.about)
}

/// When it was seen, and how far its numbers can be trusted: VMs come and go.
pub fn recorded(vm: &VmSummary) -> String {
    let seen = match vm.seen_ns {
        Some([from, to]) => format!("seen from {} to {}", since(from, 0), since(to, 0)),
        None => "no record of it".to_owned(),
    };
    let ended = match &vm.ended {
        Some(why) => format!("; ended: {}", plain(why)),
        None => String::new(),
    };
    format!(
        "{seen}{ended}; replay {} ({} compared); {} lost in the whole recording",
        vm.replay,
        plural(vm.drift.keyframes, "keyframe"),
        plural(vm.lost.records, "record"),
    )
}

/// What each class of fault cost, the most expensive first.
pub fn classes(summary: &Summary, vm: &VmSummary, detail: Detail) -> Table {
    let mut columns = vec![
        Column::code("class"),
        Column::number("faults"),
        Column::time("total"),
        Column::share("share"),
        Column::share("of run"),
        Column::time("p50"),
        Column::time("p95"),
        Column::time("p99"),
    ];
    if detail == Detail::Full {
        columns.push(Column::words("meaning"));
    }
    let mut table = Table::new("classes", "Cost by class", columns).note(summary.times());
    let whole = total(vm.classes.values().map(|cost| cost.total_ns));
    let run = vm.run.map(|run| run.total_ns);
    for (name, cost) in by_total(vm) {
        let cells = [
            Cell::words(name),
            Cell::Count(cost.count),
            Cell::Time(cost.total_ns),
            Cell::Share(cost.total_ns, whole),
            run.map_or(Cell::Absent, |run| Cell::Share(cost.total_ns, run)),
            Cell::Time(cost.p50_ns),
            Cell::time(cost.p95_ns),
            Cell::time(cost.p99_ns),
        ];
        let meaning = (detail == Detail::Full).then(|| Cell::words(meaning(name)));
        table.row(cells.into_iter().chain(meaning));
    }
    let table = match (table.is_empty(), vm.run) {
        (false, Some(run)) => table.more(outside(&run, vm.lost.records)),
        _ => table,
    };
    let mut classes = vm.classes.values();
    match classes.any(|cost| cost.p99_ns.is_none()) {
        true => table.rule(FEW),
        false => table,
    }
}

/// What of the run was in no fault.
fn outside(run: &Account, lost: u64) -> String {
    let rest = match lost {
        0 => "",
        _ => ", that of lost records among it",
    };
    let acts = match run.acts_ns {
        None | Some(0) => String::new(),
        Some(acts) => format!(", {} of it in acts", ns(acts)),
    };
    format!(
        "the run is {}, first to last record; outside of faults, not attributed: {} \
         ({}){acts}{rest}",
        run.length(),
        ns(run.not_attributed_ns),
        percent(run.not_attributed_ns, run.total_ns),
    )
}

/// The fastest and the slowest of each class, and which fault that was.
pub fn times_of(vm: &VmSummary) -> Table {
    let columns = [
        Column::code("class"),
        Column::time("p5"),
        Column::time("p99"),
        Column::number("p99 seq"),
        Column::time("max"),
        Column::number("max seq"),
    ];
    let title = "Fastest and slowest; explain --seq shows the fault";
    let mut table = Table::new("times", title, columns);
    for (name, cost) in by_total(vm) {
        table.row([
            Cell::words(name),
            Cell::time(cost.p5_ns),
            Cell::time(cost.p99_ns),
            Cell::count(cost.p99_seq.map(|seq| seq.0)),
            Cell::Time(cost.max_ns),
            Cell::count(cost.max_seq.map(|seq| seq.0)),
        ]);
    }
    table
}

/// Faults whose thread was switched out meanwhile, beside the others of their class; blank without
/// any.
pub fn switched_out(vm: &VmSummary) -> Table {
    let columns = [
        Column::code("class"),
        Column::number("faults"),
        Column::time("total"),
        Column::share("of class"),
        Column::number("others"),
        Column::time("mean"),
        Column::time("p50"),
        Column::time("p99"),
    ];
    let title = "Faults whose thread was switched out, so that their time holds other work";
    let mut table = Table::new("switched_out", title, columns);
    for (name, cost) in by_total(vm) {
        let Some(of) = cost.switched_out.filter(|of| of.count > 0) else {
            continue;
        };
        let others = cost.count.saturating_sub(of.count);
        table.row([
            Cell::words(name),
            Cell::Count(of.count),
            Cell::Time(of.total_ns),
            Cell::Share(of.total_ns, cost.total_ns),
            Cell::Count(others),
            Cell::time((others > 0).then(|| mean(of.others_total_ns, others))),
            Cell::time(of.others_p50_ns),
            Cell::time(of.others_p99_ns),
        ]);
    }
    match table.is_empty() {
        true => table,
        false => table.rule("mean, p50 and p99 are those of the other faults"),
    }
}

/// The classes, the one with most time in faults of its own first.
fn by_total(vm: &VmSummary) -> Vec<(&'static str, &ClassCost)> {
    let mut classes: Vec<_> = vm
        .classes
        .iter()
        .map(|(name, cost)| (*name, cost))
        .collect();
    classes.sort_by_key(|(name, cost)| (Reverse(cost.own_ns()), *name));
    classes
}

fn meaning(class: &str) -> &'static str {
    events::Class::from_name(class).map_or("", crate::explain::meaning)
}

/// Where the time of each class goes; in brief, of those with a twentieth of all time or more.
pub fn steps(summary: &Summary, vm: &VmSummary, detail: Detail) -> Table {
    let columns = [
        Column::code("class"),
        Column::code("step"),
        Column::number("faults"),
        Column::time("total"),
        Column::share("of class"),
        Column::time("mean"),
        Column::time("p50"),
    ];
    let mut table = Table::new("steps", "Steps of a fault", columns).note(summary.times());
    let whole = total(vm.classes.values().map(|cost| cost.total_ns));
    let mut left_out = 0;
    for (name, cost) in &vm.classes {
        if detail == Detail::Brief && cost.total_ns < whole / 20 {
            left_out += 1;
            continue;
        }
        for step in &cost.steps {
            table.row([
                Cell::words(name),
                Cell::words(step.step.label()),
                Cell::Count(step.count),
                Cell::Time(step.total_ns),
                Cell::Share(step.total_ns, cost.total_ns),
                Cell::Time(mean(step.total_ns, step.count)),
                Cell::Time(step.p50_ns),
            ]);
        }
        if let Some(sync) = cost.sync_ns.filter(|ns| *ns > 0) {
            table.row([
                Cell::words(name),
                Cell::words("of which sync"),
                Cell::Absent,
                Cell::Time(sync),
                Cell::Share(sync, cost.total_ns),
                Cell::Absent,
                Cell::Absent,
            ]);
        }
        let rest = cost.not_attributed_ns;
        if rest == Some(0) {
            continue;
        }
        table.row([
            Cell::words(name),
            Cell::words("not attributed"),
            Cell::Count(cost.count),
            rest.map_or(Cell::Absent, Cell::Time),
            rest.map_or(Cell::Absent, |rest| Cell::Share(rest, cost.total_ns)),
            rest.map_or(Cell::Absent, |rest| Cell::Time(mean(rest, cost.count))),
            Cell::Absent,
        ]);
    }
    let mut more = Vec::new();
    if left_out > 0 {
        more.push(format!(
            "{left_out} of the classes take less than 5% of the time; -v has them"
        ));
    }
    if !vm.absent_steps.is_empty() && !table.is_empty() {
        more.push(format!(
            "no time of: {} (this host does not show it, or no fault had it)",
            vm.absent_steps.join(", ")
        ));
    }
    table.more(more.join("; "))
}

/// What KVM did to the tables in one piece; in full also that it is not seen.
pub fn acts(summary: &Summary, vm: &VmSummary, detail: Detail) -> Table {
    let columns = [
        Column::code("act"),
        Column::number("count"),
        Column::time("total"),
        Column::time("in faults"),
        Column::time("p50"),
        Column::time("p95"),
        Column::time("p99"),
        Column::time("max"),
        Column::number("synced").for_programs(),
        Column::number("zapped").for_programs(),
    ];
    let title = "Acts of KVM on the shadow tables";
    let mut table = Table::new("acts", title, columns);
    let Some(acts) = &vm.acts else {
        return match detail {
            Detail::Brief => table,
            Detail::Full => table.more("not seen: their functions have no probes here"),
        };
    };
    for (name, act) in acts {
        table.row([
            Cell::words(name),
            Cell::Count(act.count),
            Cell::Time(act.total_ns),
            Cell::Time(act.in_faults_ns),
            Cell::Time(act.p50_ns),
            Cell::time(act.p95_ns),
            Cell::time(act.p99_ns),
            Cell::Time(act.max_ns),
            Cell::Count(act.synced),
            Cell::Count(act.zapped),
        ]);
    }
    match table.is_empty() {
        true => table,
        false => table
            .note(summary.times())
            .rule("an act may contain acts of other kinds: they do not add up")
            .rule(match acts.values().any(|act| act.p99_ns.is_none()) {
                true => FEW,
                false => "",
            }),
    }
}

/// What the guest paid by its own clock.
pub fn clock(summary: &Summary, vm: &VmSummary) -> Table {
    let columns = [
        Column::words("what"),
        Column::number("number"),
        Column::time("total"),
        Column::share("share"),
        Column::time("mean"),
    ];
    let title = "The guest's accesses to its range, by its own clock";
    let mut table = Table::new("clock", title, columns).note(summary.times());
    let Some(clock) = &vm.guest_clock else {
        return table;
    };
    let mut row = |what: &str, number: Option<u64>, ns: u64| {
        table.row([
            Cell::words(what),
            Cell::count(number),
            Cell::Time(ns),
            Cell::Share(ns, clock.total_ns),
            number.map_or(Cell::Absent, |number| Cell::Time(mean(ns, number))),
        ]);
    };
    row(
        "accesses, as the guest timed them",
        Some(clock.touches),
        clock.total_ns,
    );
    row(
        "seen by KVM: faults in the range",
        Some(clock.faults),
        clock.seen_ns,
    );
    let switches = clock.switches_ns.zip(vm.between_faults.as_ref());
    let rest = match switches {
        Some((all, between)) => {
            row(switches_of(between), Some(clock.faults), all);
            "the guest itself: its accesses, its handler if any"
        }
        None => "world switches; the guest itself: its accesses, its handler if any",
    };
    if let Some(rest_ns) = clock.rest_ns {
        row(rest, None, rest_ns);
    }
    let each = switches.and_then(|(_, between)| {
        let p5 = ns(between.p5_ns?);
        Some(format!(
            "; a world switch is the 5th percentile of the time between faults, {p5}"
        ))
    });
    let longest = ns(clock.max_ns);
    let longest = format!(
        "the longest access took {longest}{}",
        each.unwrap_or_default()
    );
    match (clock.rest_ns, vm.lost.records) {
        (None, _) => table.more(format!(
            "{longest}; KVM saw more than that: some faults in the range were in no timed access"
        )),
        (_, 0) => table.more(longest),
        _ => table.more(format!(
            "{longest}; lost records are not in what KVM saw, but in the rest"
        )),
    }
}

/// What the shortest times between faults hold.
fn switches_of(between: &BetweenFaults) -> &'static str {
    match between.from_entry_to_exit {
        true => "world switches at most",
        false => "world switches, KVM outside of the probes",
    }
}

/// What changed other than the leaves of faults. What was read or stored again, and had not changed,
/// is for those who look closely.
pub fn changes(vm: &VmSummary, detail: Detail) -> Table {
    let columns = [
        Column::code("what"),
        Column::code("cause"),
        Column::number("records"),
    ];
    let title = "Changes other than the leaves of faults";
    let mut table = Table::new("changes", title, columns);
    let stores = BTreeMap::from([("emulated", vm.writes)]);
    let none = BTreeMap::new();
    let unchanged = match detail {
        Detail::Full => &vm.entries_unchanged,
        Detail::Brief => &none,
    };
    for (what, counts) in [
        ("entry", &vm.entries),
        ("entry, not changed", unchanged),
        ("guest's store", &stores),
        ("host", &vm.host),
    ] {
        for (cause, number) in counts.iter().filter(|(_, number)| **number > 0) {
            table.row([Cell::words(what), Cell::words(cause), Cell::Count(*number)]);
        }
    }
    table
}

/// Faults in the workload's range, compared with theory.
pub fn range(vm: &VmSummary) -> Table {
    let classes: Vec<_> = vm.range.iter().flat_map(RangeSummary::classes).collect();
    let has_theory = classes.iter().any(|(_, _, expected)| expected.is_some());
    let mut columns = vec![Column::code("class"), Column::number("counted")];
    if has_theory {
        columns.extend([Column::number("expected"), Column::words("result")]);
    }
    let title = vm.range.as_ref().map_or_else(String::new, |range| {
        let pages = plural(range.pages, "page");
        format!("In the workload's range, {pages} from {}", range.gva)
    });
    let mut table = Table::new("range", title, columns);
    for (name, counted, expected) in classes {
        let result = match (counted, expected) {
            (0, Some(0)) | (_, None) => String::new(),
            (counted, Some(expected)) if counted == expected => "as expected".to_owned(),
            (_, Some(0)) => "not expected".to_owned(),
            (counted, Some(expected)) => format!("{} of it", percent(counted, expected)),
        };
        let theory = [Cell::count(expected), Cell::words(result)];
        let theory = theory.into_iter().filter(|_| has_theory);
        table.row(
            [Cell::words(name), Cell::Count(counted)]
                .into_iter()
                .chain(theory),
        );
    }
    table
}

/// The guest's phases.
pub fn phases(summary: &Summary, vm: &VmSummary) -> Table {
    let columns = [
        Column::code("phase"),
        Column::time("length"),
        Column::number("faults"),
        Column::share("in faults"),
        Column::words("by class"),
    ];
    let table = Table::new("phases", "Phases of the guest", columns);
    let mut table = table.first(PHASES).note(summary.times());
    // As the share of the run: of the time of all vCPUs.
    let vcpus = vm.vcpus.len().max(1) as u64;
    for phase in &vm.phases {
        let classes = phase.classes.iter();
        let classes = classes.map(|(name, number)| format!("{name} {}", count(*number)));
        table.row([
            Cell::words(&phase.label),
            Cell::Time(phase.length_ns),
            Cell::Count(phase.classes.values().sum()),
            Cell::Share(phase.total_ns, phase.length_ns.saturating_mul(vcpus)),
            Cell::words(classes.collect::<Vec<_>>().join(", ")),
        ]);
    }
    table
}

/// Changes that only a keyframe showed, and why.
pub fn late(late: &LateSummary) -> Table {
    let columns = [
        Column::code("kind"),
        Column::number("entries"),
        Column::words("why"),
        Column::words("done by one of"),
    ];
    let entries = plural(late.entries, "change");
    let title = format!("Seen late, by a keyframe only: {entries}");
    let mut table = Table::new("late", title, columns);
    for (name, kind) in &late.kinds {
        table.row([
            Cell::words(name),
            Cell::Count(kind.entries),
            Cell::words(kind.why),
            Cell::words(kind.writers.join(", ")),
        ]);
    }
    table
}
