//! The summary as text.

use super::{Summary, VmSummary};
use crate::{
    faults::Relation,
    text::{
        Grid, plain,
        units::{bytes, count, duration, ns, percent, plural, signed},
    },
};

/// Phases listed.
const PHASES: usize = 40;

/// The summary for a terminal, without the verdict lines that go above it.
pub fn text(summary: &Summary) -> String {
    let mut out = String::new();
    let workload = summary
        .workload
        .as_deref()
        .map(|name| format!("{}, ", plain(name)))
        .unwrap_or_default();
    let size = summary
        .bytes_per_fault
        .map(|each| format!(" ({each:.1} bytes a fault)"))
        .unwrap_or_default();
    out.push_str(&format!(
        "{}: {workload}{} in {}, {} on disk{size}\n",
        plain(&summary.trace),
        plural(summary.records, "record"),
        ns(summary.span_ns),
        bytes(summary.bytes),
    ));
    for vm in &summary.vms {
        vm_text(&mut out, vm);
    }
    out
}

fn vm_text(out: &mut String, vm: &VmSummary) {
    let pid = vm
        .pid
        .map(|pid| format!(" (pid {pid})"))
        .unwrap_or_default();
    out.push_str(&format!(
        "\nVM {}{pid}: {}\n",
        vm.vm,
        plural(vm.faults, "fault")
    ));
    classes(out, vm);
    steps(out, vm);
    range(out, vm);
    phases(out, vm);
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
                step.step.name().to_owned(),
                count(step.count),
                duration(step.total_ns as f64 / step.count.max(1) as f64),
                ns(step.p50_ns),
            ]);
        }
    }
    if !grid.is_empty() {
        out.push_str("\n  Steps that this trace shows\n");
        out.push_str(&grid.text(2));
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
            (0, 0) => String::new(),
            _ if counted == expected => "as expected".to_owned(),
            (_, 0) => "not expected".to_owned(),
            _ => format!("{} of it", percent(counted, expected)),
        };
        grid.row([name.to_owned(), count(counted), count(expected), note]);
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
        let note = match (line.agrees, line.relation) {
            (_, Relation::NotCompared) => format!("not compared: {}", line.counts),
            (true, Relation::Equal) => "equal".to_owned(),
            (true, Relation::AtLeast) if line.kvm == line.trace => "equal".to_owned(),
            (true, Relation::AtLeast) => {
                format!(
                    "{} more: {}",
                    signed(line.kvm.saturating_sub(line.trace)),
                    line.counts
                )
            }
            (false, _) => format!(
                "DIFFERS by {}: {}",
                signed(line.kvm.saturating_sub(line.trace)),
                line.counts
            ),
        };
        grid.row([
            line.counter.to_owned(),
            signed(line.kvm),
            signed(line.trace),
            note,
        ]);
    }
    out.push_str(&grid.text(2));
}
