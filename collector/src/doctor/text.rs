//! The report as text.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{Finding, Report, Section, State};
use crate::terminal::wrap;

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Absent => "absent",
            State::Untried => "untried",
            State::Advice => "advice",
            State::Unknown => "unknown",
            State::Missing => "MISSING",
        }
    }
}

impl Section {
    fn heading(self) -> &'static str {
        match self {
            Section::Host => "Host",
            Section::Types => "Kernel types",
            Section::Probes => "Probes: steps of a fault, changes of the shadow tables",
            Section::Columns => "Columns of `faults` that will be empty",
            Section::Bugs => "Known bugs of the shadow MMU, by the kernel's version; advice only",
        }
    }
}

/// Prints it as tables of at most `width` columns.
pub fn print(out: &mut impl Write, report: &Report, width: usize) -> io::Result<()> {
    writeln!(out, "{}", wrap(&report.verdict, width, "", ""))?;
    let mut section = None;
    for finding in &report.findings {
        if section != Some(finding.section) {
            if section == Some(Section::Probes) {
                refusals(out, &report.findings, width)?;
            }
            section = Some(finding.section);
            writeln!(out, "\n{}", finding.section.heading())?;
        }
        row(out, finding, width)?;
    }
    if section == Some(Section::Probes) {
        refusals(out, &report.findings, width)?;
    }
    Ok(())
}

fn row(out: &mut impl Write, finding: &Finding, width: usize) -> io::Result<()> {
    let place = finding.hook.as_ref().map(|hook| format!(" [{hook}]"));
    let found = format!("{}{}", finding.found, place.unwrap_or_default());
    // The longest name of a probe.
    let begin = format!("  {:<7} {:<39} ", finding.state.word(), finding.what);
    let margin = " ".repeat(50);
    writeln!(out, "{}", wrap(&found, width, &begin, &margin))?;
    match (&finding.remedy, finding.section) {
        // Once for all probes that were refused for the same reason.
        (Some(_), Section::Probes) | (None, _) => Ok(()),
        (Some(remedy), _) => {
            let (arrow, margin) = (format!("{margin}-> "), " ".repeat(53));
            writeln!(out, "{}", wrap(remedy, width, &arrow, &margin))
        }
    }
}

/// Each reason why probes were refused, with their number.
fn refusals(out: &mut impl Write, findings: &[Finding], width: usize) -> io::Result<()> {
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
        let begin = format!("  {probes}: ");
        writeln!(out, "{}", wrap(why, width, &begin, "    "))?;
        if let Some(remedy) = remedy {
            writeln!(out, "{}", wrap(remedy, width, "    -> ", "       "))?;
        }
    }
    Ok(())
}
