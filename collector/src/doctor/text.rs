//! The report for people.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{Finding, Report, Section, State};

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Absent => "absent",
            State::Untried => "untried",
            State::Missing => "MISSING",
        }
    }
}

impl Section {
    fn heading(self) -> &'static str {
        match self {
            Section::Host => "Host",
            Section::Types => "Kernel types",
            Section::Probes => "Steps of a fault, and changes of the tables",
            Section::Columns => "Columns of faults that will be absent",
        }
    }
}

/// Prints it as tables.
pub fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "{}", report.verdict)?;
    let mut section = None;
    for finding in &report.findings {
        if section != Some(finding.section) {
            if section == Some(Section::Probes) {
                refusals(out, &report.findings)?;
            }
            section = Some(finding.section);
            writeln!(out, "\n{}", finding.section.heading())?;
        }
        line(out, finding)?;
    }
    if section == Some(Section::Probes) {
        refusals(out, &report.findings)?;
    }
    Ok(())
}

fn line(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let word = finding.state.word();
    let place = finding.hook.as_ref().map(|hook| format!(" [{hook}]"));
    let found = format!("{}{}", finding.found, place.unwrap_or_default());
    writeln!(out, "  {word:<7} {:<40} {found}", finding.what)?;
    match (&finding.remedy, finding.section) {
        // Said once for all probes with the same refusal.
        (Some(_), Section::Probes) | (None, _) => Ok(()),
        (Some(remedy), _) => writeln!(out, "  {:<7} {:<40} -> {remedy}", "", ""),
    }
}

/// Each reason for which probes were refused, with their number.
fn refusals(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    let mut reasons: BTreeMap<(&str, Option<&str>), Vec<&str>> = BTreeMap::new();
    for finding in findings {
        if finding.section != Section::Probes || finding.state == State::Ok {
            continue;
        }
        for tried in &finding.tried {
            let reason = (tried.refused.as_str(), finding.remedy.as_deref());
            let names = reasons.entry(reason).or_default();
            if names.last() != Some(&finding.what.as_str()) {
                names.push(&finding.what);
            }
        }
        if finding.tried.is_empty()
            && let Some(why) = &finding.remedy
        {
            reasons.entry((why, None)).or_default().push(&finding.what);
        }
    }
    for ((why, remedy), names) in reasons {
        let probes = match names.as_slice() {
            [one] => (*one).to_owned(),
            many => format!("{} of these", many.len()),
        };
        writeln!(out, "  {probes}: {why}")?;
        if let Some(remedy) = remedy {
            writeln!(out, "    -> {remedy}")?;
        }
    }
    Ok(())
}
