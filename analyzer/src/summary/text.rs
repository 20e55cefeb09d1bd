//! The summary as text.

use std::collections::BTreeMap;

use super::{Absent, Summary, VmSummary};
use crate::{
    faults::Relation,
    text::{
        Grid, plain,
        units::{bytes, count, duration, ns, percent, plural, signed, since},
    },
};

/// Phases listed.
const PHASES: usize = 40;

/// The summary for a terminal, without the verdict lines that go above it.
pub fn text(summary: &Summary) -> String {
    let mut out = String::new();
    let what = match &summary.workload {
        Some(name) => plain(name),
        None => format!("{} found running", plural(summary.vms.len() as u64, "VM")),
    };
    let size = summary
        .bytes_per_fault
        .map(|each| format!(" ({each:.1} bytes a fault)"))
        .unwrap_or_default();
    out.push_str(&format!(
        "{}: {what}, {} in {}, {} on disk{size}\n",
        plain(&summary.trace),
        plural(summary.records, "record"),
        ns(summary.span_ns),
        bytes(summary.bytes),
    ));
    for vm in &summary.vms {
        out.push_str(&format!("\n{}\n", title(vm)));
        if summary.come_and_go {
            out.push_str(&format!("  {}\n", recorded(vm)));
        }
        vm_text(&mut out, vm);
    }
    absent(&mut out, &summary.absent);
    out
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
        None => "without any record".to_owned(),
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

/// Probes that record nothing, together where the reason is the same.
fn absent(out: &mut String, absent: &[Absent]) {
    if absent.is_empty() {
        return;
    }
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for probe in absent {
        let why = reason(probe);
        match reasons.iter_mut().find(|(other, _)| *other == why) {
            Some((_, probes)) => probes.push(&probe.name),
            None => reasons.push((why, vec![&probe.name])),
        }
    }
    let probes = plural(absent.len() as u64, "probe");
    out.push_str(&format!("\nNot attached: {probes}\n"));
    for (why, probes) in reasons {
        out.push_str(&format!("  {}\n", plain(why)));
        for line in wrapped(&probes) {
            out.push_str(&format!("    {}\n", plain(&line)));
        }
    }
}

/// What the kernel said of the first choice, or the plan of a hook that it did not try. What the
/// results lack stands behind the semicolon; it is in the report.
fn reason(probe: &Absent) -> &str {
    match probe.tried.first() {
        Some(first) => &first.refused,
        None => probe.why.split(';').next().unwrap_or_default(),
    }
}

/// Names in lines.
fn wrapped(names: &[&str]) -> Vec<String> {
    const WIDTH: usize = 92;
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + name.len() + 2 <= WIDTH => {
                line.push_str(", ");
                line.push_str(name);
            }
            _ => lines.push((*name).to_owned()),
        }
    }
    lines
}

fn vm_text(out: &mut String, vm: &VmSummary) {
    classes(out, vm);
    steps(out, vm);
    changes(out, vm);
    range(out, vm);
    phases(out, vm);
    late(out, vm);
    reconciliation(out, vm);
}

fn classes(out: &mut String, vm: &VmSummary) {
    if vm.classes.is_empty() {
        return;
    }
    let whole: u64 = vm.classes.values().map(|cost| cost.total_ns).sum();
    let mut grid = Grid::new(&[
        "class", ">count", ">total", ">share", ">p50", ">p95", ">p99",
    ]);
    let mut classes: Vec<_> = vm.classes.iter().collect();
    classes.sort_by_key(|(name, cost)| (std::cmp::Reverse(cost.total_ns), **name));
    for (name, cost) in classes {
        grid.row([
            (*name).to_owned(),
            count(cost.count),
            ns(cost.total_ns),
            percent(cost.total_ns, whole),
            ns(cost.p50_ns),
            ns(cost.p95_ns),
            ns(cost.p99_ns),
        ]);
    }
    out.push_str(&grid.text(2));
}

fn steps(out: &mut String, vm: &VmSummary) {
    let mut grid = Grid::new(&["class", "step", ">faults", ">mean", ">p50"]);
    for (name, cost) in &vm.classes {
        for step in &cost.steps {
            grid.row([
                (*name).to_owned(),
                step.step.label(),
                count(step.count),
                duration(step.total_ns as f64 / step.count.max(1) as f64),
                ns(step.p50_ns),
            ]);
        }
    }
    if !grid.is_empty() {
        out.push_str("\n  Steps that this trace shows\n");
        out.push_str(&grid.text(2));
        if !vm.absent_steps.is_empty() {
            let absent = vm.absent_steps.join(", ");
            out.push_str(&format!("  absent from every fault: {absent}\n"));
        }
    }
}

/// What changed beside the leaves of faults.
fn changes(out: &mut String, vm: &VmSummary) {
    let words = |counts: &BTreeMap<&'static str, u64>| {
        let words = counts
            .iter()
            .map(|(name, number)| format!("{name} {}", count(*number)));
        words.collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    if !vm.entries.is_empty() {
        let entries = words(&vm.entries);
        lines.push(format!(
            "Entries changed beside the leaves of faults: {entries}"
        ));
    }
    if vm.writes > 0 {
        let writes = count(vm.writes);
        lines.push(format!("Emulated stores of the guest: {writes}"));
    }
    if !vm.host.is_empty() {
        lines.push(format!("What the host did: {}", words(&vm.host)));
    }
    if !lines.is_empty() {
        out.push_str(&format!("\n  {}\n", lines.join("\n  ")));
    }
}

fn range(out: &mut String, vm: &VmSummary) {
    let Some(range) = &vm.range else { return };
    out.push_str(&format!(
        "\n  In the workload's range, {} from {:#x}\n",
        plural(range.pages, "page"),
        range.gva
    ));
    let mut grid = Grid::new(&["class", ">counted", ">expected", ""]);
    for (name, counted, expected) in [
        ("guest", range.guest, range.expected_guest),
        ("shadow", range.shadow, range.expected_shadow),
        ("retried", range.retried, range.expected_retried),
    ] {
        let note = match (counted, expected) {
            (0, Some(0)) | (_, None) => String::new(),
            (_, Some(expected)) if counted == expected => "as expected".to_owned(),
            (_, Some(0)) => "not expected".to_owned(),
            (_, Some(expected)) => format!("{} of it", percent(counted, expected)),
        };
        let expected = expected.map_or_else(|| "-".to_owned(), count);
        grid.row([name.to_owned(), count(counted), expected, note]);
    }
    out.push_str(&grid.text(2));
}

fn phases(out: &mut String, vm: &VmSummary) {
    if vm.phases.is_empty() {
        return;
    }
    out.push_str("\n  Phases\n");
    let mut grid = Grid::new(&["phase", ">length", ">faults", ">in faults", "by class"]);
    for phase in vm.phases.iter().take(PHASES) {
        let classes: Vec<_> = phase
            .classes
            .iter()
            .map(|(name, number)| format!("{name} {}", count(*number)))
            .collect();
        grid.row([
            plain(&phase.name),
            ns(phase.length_ns),
            count(phase.classes.values().sum()),
            percent(phase.total_ns, phase.length_ns),
            classes.join(", "),
        ]);
    }
    out.push_str(&grid.text(2));
    if vm.phases.len() > PHASES {
        let more = count((vm.phases.len() - PHASES) as u64);
        out.push_str(&format!("  and {more} more; --json lists all\n"));
    }
}

/// What only a keyframe showed, and why.
fn late(out: &mut String, vm: &VmSummary) {
    let late = &vm.drift.late;
    if late.entries == 0 {
        return;
    }
    let entries = plural(late.entries, "change");
    out.push_str(&format!("\n  Seen late, by a keyframe only: {entries}\n"));
    let mut grid = Grid::new(&["kind", ">entries", "why", "done by one of"]);
    for (name, kind) in &late.kinds {
        grid.row([
            (*name).to_owned(),
            count(kind.entries),
            kind.why.to_owned(),
            kind.writers.join(", "),
        ]);
    }
    out.push_str(&grid.text(2));
}

fn reconciliation(out: &mut String, vm: &VmSummary) {
    let Some(lines) = &vm.reconciliation else {
        out.push_str("\n  KVM's counters of the end are not in this trace: nothing to reconcile\n");
        return;
    };
    if lines.is_empty() {
        return;
    }
    out.push_str("\n  Against KVM's own counters\n");
    let mut grid = Grid::new(&["counter", ">KVM", ">trace", ""]);
    for line in lines {
        let note = match (line.agrees, line.relation, line.why) {
            (_, Relation::NotCompared, why) => {
                format!("not compared: {}", why.unwrap_or_default())
            }
            (true, ..) if line.difference() == 0 => line.verdict.to_owned(),
            (true, ..) => format!("{}: {}", line.verdict, line.counts),
            (false, ..) => format!(
                "{} by {}: {}",
                line.verdict,
                signed(line.difference()),
                line.counts
            ),
        };
        grid.row([
            plain(&line.counter),
            signed(line.kvm),
            line.trace.map(signed).unwrap_or_default(),
            note,
        ]);
    }
    out.push_str(&grid.text(2));
}
