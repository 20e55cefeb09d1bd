//! Pathologies as text.

use super::{Finding, Pathology};
use crate::{
    faults::SWITCHED_OUT,
    text::{Cell, Column, Section, Table, units::plural},
};

/// One line for each pathology that was found; blank without any.
pub fn brief(findings: &[Finding]) -> Table {
    let is_switched = findings.iter().any(|finding| finding.switched_out_ns > 0);
    let columns = [
        Column::code("pathology"),
        Column::words("found"),
        Column::time("cost"),
        Column::time("switched out").shown_if(is_switched),
        Column::words("worst culprit"),
        Column::number("seq"),
    ];
    let title = format!("Pathologies: {} found", findings.len());
    let mut table = Table::new("pathologies", title, columns);
    for finding in findings {
        let [one, part] = finding.pathology.counted();
        let found = format!(
            "{}, {}",
            plural(finding.count, one),
            plural(finding.size, part)
        );
        table.row([
            Cell::words(finding.pathology.name()),
            Cell::words(found),
            finding.cost_ns.map_or(Cell::Absent, Cell::Time),
            Cell::time(finding.cost_ns.and(Some(finding.switched_out_ns))),
            Cell::words(finding.culprit.text()),
            Cell::Count(finding.seq.0),
        ]);
    }
    if findings.is_empty() {
        return table;
    }
    let missing = findings.iter().any(|finding| finding.over_gap);
    table
        .more(
            "`analyzer explain TRACE --seq SEQ` shows the worst; cost: time of the faults that came \
             of it (`unsync_storm`: of the syncs; `roots_rebuilt`: of all faults on a new root until \
             the next switch), blank where no record has a time",
        )
        .rule(if is_switched { SWITCHED_OUT } else { "" })
        .more(match missing {
            true => "RECORDS MISSING: there may be more, or less",
            false => "",
        })
}

/// Everything that `pathologies` prints of a VM: thresholds of what was found.
pub fn section(vm: u16, about: &str, findings: &[Finding]) -> Section {
    let none = findings.is_empty().then(|| {
        let all: Vec<_> = Pathology::ALL.iter().map(|of| of.name()).collect();
        format!("none was found; looked for: {}", all.join(", "))
    });
    let mut tables = vec![brief(findings)];
    if !findings.is_empty() {
        let is_found = |of: &Pathology| findings.iter().any(|finding| finding.pathology == *of);
        tables.push(thresholds_of(is_found));
    }
    Section {
        vm: Some(vm),
        title: format!("VM {vm} ({about})"),
        lines: none.into_iter().collect(),
        tables,
    }
}

/// From when on each is found, and why.
pub fn thresholds() -> Table {
    thresholds_of(|_| true)
}

fn thresholds_of(wanted: impl Fn(&Pathology) -> bool) -> Table {
    let columns = [Column::code("pathology"), Column::words("is found from")];
    let mut table = Table::new("thresholds", "Thresholds of pathologies", columns);
    for pathology in Pathology::ALL.iter().filter(|of| wanted(of)) {
        table.row([
            Cell::words(pathology.name()),
            Cell::words(pathology.threshold()),
        ]);
    }
    table
}
