//! The result of an audit: what `audit --json` prints, and the tables that people read.

use events::{Hpa, VmId};
use serde::Serialize;

use super::{Audit, Check, Doubt, Violation};
use crate::{
    study::Study,
    text::{
        Cell, Column, Document, Section, Table,
        units::{count, plural},
    },
};

/// Violations that people are shown.
const LISTED: usize = 20;

/// What `audit --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct AuditReport {
    /// There is a VM, and no check is violated.
    pub clean: bool,
    /// Records known to be missing: what seems violated after them is undecided.
    pub lost: u64,
    /// Each VM.
    pub vms: Vec<VmAudit>,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct VmAudit {
    /// Its number.
    pub vm: u16,
    /// Each check.
    pub checks: Vec<CheckReport>,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Its name.
    pub check: &'static str,
    /// What must hold.
    pub rule: &'static str,
    /// Public records of the bugs that it guards against: CVEs, commits of Linux.
    pub guards: &'static [&'static str],
    /// `holds`, `violated`, `undecided` or `not_checked`.
    pub result: &'static str,
    /// Places that were checked.
    pub checked: u64,
    /// Places where it does not hold.
    pub violated: u64,
    /// Places where it seems not to hold, after records that are missing.
    pub undecided: u64,
    /// Places, or acts, that the trace does not decide.
    pub not_checked: Vec<NotChecked>,
    /// The first places where it does not hold.
    pub violations: Vec<ViolationReport>,
}

/// Places that a trace does not decide.
#[derive(Clone, Debug, Serialize)]
pub struct NotChecked {
    /// Why.
    pub why: &'static str,
    /// How many.
    pub count: u64,
}

/// A place where a check does not hold.
#[derive(Clone, Debug, Serialize)]
pub struct ViolationReport {
    /// The record that shows it; of a keyframe, its mark.
    pub seq: u64,
    /// When, ns from the start of the trace.
    pub time_ns: u64,
    /// A keyframe shows it.
    pub in_keyframe: bool,
    /// The entry or the page.
    pub place: Hpa,
    /// What the rule demands.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Arguments of `analyzer` that show it; the trace comes after the first.
    pub show: String,
}

impl AuditReport {
    /// The audits of a study's VMs.
    pub fn of<F>(study: &Study<F>, audit: impl Fn(&F) -> &Audit) -> Self {
        let doubt = Doubt::of(study);
        let start = study.span_ns[0];
        let vms = study.vms.iter();
        let vms: Vec<_> = vms
            .map(|(vm, of)| VmAudit::of(*vm, audit(of), &doubt, start))
            .collect();
        let clean = !vms.is_empty() && vms.iter().all(VmAudit::is_clean);
        Self {
            clean,
            lost: study.lost_records(),
            vms,
        }
    }
}

impl VmAudit {
    /// In one line.
    pub fn line(&self) -> String {
        let violated: u64 = self.checks.iter().map(|check| check.violated).sum();
        if violated > 0 {
            let violations = plural(violated, "violation");
            return format!("{violations} of the shadow MMU's invariants: audit lists them");
        }
        let all = self.checks.len();
        let of = |result: &str| {
            let checks = self.checks.iter();
            checks.filter(|check| check.result == result).count()
        };
        let undecided = match of("undecided") {
            0 => String::new(),
            some => format!(", {some} undecided after missing records"),
        };
        let checked = of("holds");
        format!("{checked} of {all} invariants of the shadow MMU checked, none violated{undecided}")
    }

    /// No check is violated.
    pub fn is_clean(&self) -> bool {
        self.checks.iter().all(|check| check.violated == 0)
    }

    /// The result of an audit.
    pub fn of(vm: VmId, audit: &Audit, doubt: &Doubt<'_>, start: u64) -> Self {
        let checks = Check::ALL.into_iter();
        let checks = checks.map(|check| CheckReport::of(vm, audit, check, doubt, start));
        Self {
            vm: vm.0,
            checks: checks.collect(),
        }
    }
}

impl CheckReport {
    fn of(vm: VmId, audit: &Audit, check: Check, doubt: &Doubt<'_>, start: u64) -> Self {
        let tally = audit.tally(check);
        let [violated, undecided] = doubt.split(audit, check);
        let proved = tally.first().iter().filter(|found| doubt.proves(found));
        let left_out = tally.left_out();
        Self {
            check: check.name(),
            rule: check.rule(),
            guards: check.guards(),
            result: match (violated, undecided, tally.checked()) {
                (0, 0, 0) => "not_checked",
                (0, 0, _) => "holds",
                (0, ..) => "undecided",
                _ => "violated",
            },
            checked: tally.checked() - undecided,
            violated,
            undecided,
            not_checked: left_out
                .map(|(why, count)| NotChecked {
                    why: why.words(),
                    count,
                })
                .collect(),
            violations: proved.map(|found| show(vm, found, start)).collect(),
        }
    }

    /// Why nothing, or not everything, was checked; empty if all was.
    fn reason(&self) -> String {
        let mut reasons: Vec<_> = self
            .not_checked
            .iter()
            .map(|left| format!("{}: {}", count(left.count), left.why))
            .collect();
        if self.undecided > 0 {
            reasons.push(format!("{}: after missing records", count(self.undecided)));
        }
        match (self.checked, reasons.is_empty()) {
            (0, true) => "the trace has nothing of the kind".to_owned(),
            _ => reasons.join("; "),
        }
    }
}

fn show(vm: VmId, found: &Violation, start: u64) -> ViolationReport {
    let (seq, vm, page) = (found.at.seq.0, vm.0, found.place.table());
    ViolationReport {
        seq,
        time_ns: found.at.time.0.saturating_sub(start),
        in_keyframe: found.in_keyframe,
        place: found.place,
        expected: found.expected.clone(),
        found: found.found.clone(),
        show: match found.in_keyframe {
            true => format!("table --seq {seq} --root {page} --vm {vm}"),
            false => format!("explain --seq {seq} --vm {vm}"),
        },
    }
}

/// The result in one line.
pub fn verdict(report: &AuditReport) -> String {
    let checks = || report.vms.iter().flat_map(|vm| &vm.checks);
    let of = |result: &str| checks().filter(|check| check.result == result).count() as u64;
    let mut undecided = String::new();
    for (result, words) in [("undecided", "undecided"), ("not_checked", "not checked")] {
        let some = of(result);
        if some > 0 {
            undecided += &format!(", {} {words}", plural(some, "invariant"));
        }
    }
    if report.lost > 0 {
        undecided += &format!("; {} lost", plural(report.lost, "record"));
    }
    match of("violated") {
        0 if report.vms.is_empty() => "no VM was seen, so nothing is checked".to_owned(),
        0 if of("holds") == 0 => format!("nothing is violated, nor proved{undecided}"),
        0 => format!(
            "clean: {} hold{undecided}",
            plural(of("holds"), "invariant")
        ),
        some => format!("violated: {}{undecided}", plural(some, "invariant")),
    }
}

/// The checks and what they guard against, for `--help`.
pub fn help() -> String {
    let mut text =
        "The checks, each with the bug of the kernel that it would have shown:".to_owned();
    for check in Check::ALL {
        text += &format!("\n  {}: {}", check.name(), check.rule());
        if !check.guards().is_empty() {
            text += &format!(" ({})", check.guards().join(", "));
        }
    }
    text + "\n\nWhat a trace does not decide is not checked, and named with the reason."
}

/// The audit, without the verdict that goes above it.
pub fn document(report: &AuditReport) -> Document {
    let sections = report.vms.iter().map(|vm| Section {
        vm: Some(vm.vm),
        title: format!("VM {}", vm.vm),
        tables: tables(vm).to_vec(),
        ..Section::default()
    });
    Document {
        sections: sections.collect(),
        ..Document::default()
    }
}

/// The checks, what could not be decided, what is violated.
pub fn tables(vm: &VmAudit) -> [Table; 3] {
    [checks(vm), not_checked(vm), violations(vm)]
}

fn checks(vm: &VmAudit) -> Table {
    let columns = [
        Column::code("check"),
        Column::number("checked"),
        Column::number("violated"),
        Column::words("what must hold"),
        Column::words("guards against"),
    ];
    let title = "Invariants of the shadow MMU, at every record and keyframe";
    let mut table = Table::new("audit", title, columns);
    for check in &vm.checks {
        let numbers = match check.result {
            "not_checked" => [Cell::Absent, Cell::Absent],
            _ => [Cell::Count(check.checked), Cell::Count(check.violated)],
        };
        let [checked, violated] = numbers;
        table.row([
            Cell::words(check.check),
            checked,
            violated,
            Cell::words(check.rule),
            Cell::words(check.guards.join(", ")),
        ]);
    }
    table
}

/// A row for each reason: most checks lack the same.
fn not_checked(vm: &VmAudit) -> Table {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for check in &vm.checks {
        let reason = check.reason();
        match reasons.iter_mut().find(|(of, _)| *of == reason) {
            _ if reason.is_empty() => {}
            Some((_, checks)) => checks.push(check.check),
            None => reasons.push((reason, vec![check.check])),
        }
    }
    let columns = [Column::words("why"), Column::code("not checked")];
    let title = "What this trace does not decide: how many places or acts, and why";
    let mut table = Table::new("not_checked", title, columns);
    for (reason, checks) in reasons {
        table.row([Cell::words(reason), Cell::words(checks.join(", "))]);
    }
    table
}

fn violations(vm: &VmAudit) -> Table {
    let columns = [
        Column::number("seq"),
        Column::time("at"),
        Column::code("check"),
        Column::code("place"),
        Column::words("expected"),
        Column::words("found"),
        Column::words("analyzer"),
    ];
    let all: u64 = vm.checks.iter().map(|check| check.violated).sum();
    let title = plural(all, "violation");
    let mut table = Table::new("violations", title, columns).first(LISTED);
    let found = vm.checks.iter().flat_map(|check| {
        let violations = check.violations.iter();
        violations.map(|violation| (check.check, violation))
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(_, violation)| violation.seq);
    let kept = found.len() as u64;
    for (check, violation) in found {
        table.row([
            Cell::Count(violation.seq),
            Cell::At(violation.time_ns),
            Cell::words(check),
            Cell::Address(violation.place.0),
            Cell::words(&violation.expected),
            Cell::words(&violation.found),
            Cell::words(&violation.show),
        ]);
    }
    match all.saturating_sub(kept) {
        0 => table,
        more => table.more(format!("{} more are only counted", count(more))),
    }
}
