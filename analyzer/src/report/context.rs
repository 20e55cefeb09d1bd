//! What the page says: every number is formatted here, once.

use events::{Class, VmId};
use serde::Serialize;
use trace::{ProbeState, Trace};

use super::{
    ReportError,
    figures::{Figure, figures},
};
use crate::{
    explain::{self, Selector},
    faults::Relation,
    study::{Study, VmStudy},
    summary::{self, Summary, VmSummary},
    text::{
        flags, plain,
        units::{bytes, count, duration, ns, page_size, percent, plural, signed},
    },
    verdict,
};

/// The whole page.
#[derive(Clone, Debug, Serialize, askama::Template)]
#[template(path = "report.html")]
pub struct Page {
    /// Of the browser's window.
    pub title: String,
    /// One for each trace.
    pub traces: Vec<TraceContext>,
    /// The program that made it.
    pub made_by: String,
}

/// One trace.
#[derive(Clone, Debug, Serialize)]
pub struct TraceContext {
    /// Name of the folder.
    pub name: String,
    /// What was recorded, in one line.
    pub about: String,
    /// What must be said first: cut, damaged.
    pub warnings: Vec<String>,
    /// Whether everything is as it should be.
    pub exact: bool,
    /// The same in words.
    pub verdict: String,
    /// Each aspect of the data's quality.
    pub quality: Vec<Statement>,
    /// Each VM.
    pub sections: Vec<Section>,
    /// How it was recorded.
    pub method: Vec<Pair>,
    /// Probes and what became of them.
    pub probes: Vec<Probe>,
}

/// A statement with its mark.
#[derive(Clone, Debug, Serialize)]
pub struct Statement {
    /// Its mark: `good`, `bad`, or `neutral` for what is neither.
    pub mark: &'static str,
    /// The statement.
    pub text: String,
}

/// A name and its value.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A probe.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// What it hooks.
    pub hook: String,
    /// Whether it records.
    pub attached: bool,
    /// What it shows, or why not.
    pub note: String,
    /// Hooks that were tried and refused.
    pub refused: String,
    /// Runs and time by the kernel's own measure, where known.
    pub cost: String,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// Its name.
    pub title: String,
    /// Its place on the page, within its trace.
    pub id: String,
    /// When it was seen and how far it can be trusted; empty for the one VM of a run.
    pub about: String,
    /// What changed beside the leaves of faults: what, how often.
    pub changes: Vec<[String; 2]>,
    /// Cost by class: class, meaning, count, total, share, p50, p95, p99.
    pub classes: Vec<[String; 8]>,
    /// Range counts: class, counted, expected.
    pub range: Vec<[String; 3]>,
    /// The range in words.
    pub range_about: String,
    /// Phases: name, length, faults, share of time in faults, by class.
    pub phases: Vec<[String; 5]>,
    /// What of the phases is not listed.
    pub phases_more: String,
    /// Counters: name, KVM, trace, remark, what it counts.
    pub counters: Vec<[String; 5]>,
    /// Keyframes: number, at, pages, entries, used, entries off, pages off, A/D only.
    pub keyframes: Vec<[String; 8]>,
    /// Figures.
    pub figures: Vec<Figure>,
    /// The five steps of one fault, as text.
    pub example: String,
    /// The shadow tables at the end: root, from, to, leaves, size, rights, first frame.
    pub ranges: Vec<[String; 7]>,
    /// What of the tables is not listed.
    pub ranges_more: String,
}

/// Rows of the tables at the end.
const RANGES: usize = 40;
/// Rows of phases.
const PHASES: usize = 40;
/// Rows of keyframes.
const KEYFRAMES: usize = 20;

pub(super) fn trace(trace: &Trace, study: &Study) -> Result<TraceContext, ReportError> {
    let summary = Summary::of(trace, study);
    let meta = trace.meta();
    let line = verdict::line(trace, study);
    let name = trace.path().file_name().map_or_else(
        || trace.path().display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let each = summary
        .bytes_per_fault
        .map(|each| format!(", {each:.1} bytes a fault"))
        .unwrap_or_default();
    let workload = meta.workload.as_ref().map(|workload| {
        let params: Vec<_> = workload
            .params
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let params = if params.is_empty() {
            String::new()
        } else {
            format!(" ({})", params.join(", "))
        };
        format!("workload {}{params}; ", workload.name)
    });
    let found = || format!("{} found running; ", plural(study.vms.len() as u64, "VM"));
    let mut quality: Vec<_> = verdict::quality(study)
        .into_iter()
        .map(|line| Statement {
            mark: if line.good { "good" } else { "bad" },
            text: line.text,
        })
        .collect();
    quality.push(refused(trace));
    let mut sections = Vec::new();
    for (vm, of) in &study.vms {
        sections.push(section(trace, study, *vm, of, &summary)?);
    }
    Ok(TraceContext {
        name: plain(&name),
        about: plain(&format!(
            "{}{} in {}, {} on disk{each}",
            workload.unwrap_or_else(found),
            plural(study.records, "record"),
            ns(summary.span_ns),
            bytes(summary.bytes),
        )),
        warnings: verdict::warnings(trace, study)
            .into_iter()
            .map(|line| plain(&line.text))
            .collect(),
        exact: line.good,
        verdict: line.text,
        quality,
        sections,
        method: method(trace),
        probes: probes(trace),
    })
}

fn refused(trace: &Trace) -> Statement {
    let refused = trace
        .meta()
        .probes
        .iter()
        .filter(|probe| !probe.attached)
        .count() as u64;
    if refused == 0 {
        return Statement {
            mark: "good",
            text: "every probe of the plan records".to_owned(),
        };
    }
    let text = format!(
        "{} of the plan not attached: what they show is absent, see the end of the page",
        plural(refused, "probe")
    );
    // Absent is not wrong: each figure names what it lacks.
    Statement {
        mark: "neutral",
        text,
    }
}

fn section(
    trace: &Trace,
    study: &Study,
    vm: VmId,
    of: &VmStudy,
    summary: &Summary,
) -> Result<Section, ReportError> {
    let numbers = summary.vms.iter().find(|numbers| numbers.vm == vm.0);
    let (ranges, ranges_more) = ranges(study, vm);
    Ok(Section {
        title: numbers.map(summary::title).unwrap_or_default(),
        id: format!("vm-{}", vm.0),
        about: numbers
            .filter(|_| summary.come_and_go)
            .map(summary::recorded)
            .unwrap_or_default(),
        changes: numbers.map(changes).unwrap_or_default(),
        classes: classes(of),
        range: numbers
            .and_then(|vm| vm.range.as_ref())
            .map(|range| {
                vec![
                    [
                        "guest".to_owned(),
                        count(range.guest),
                        theory(range.expected_guest),
                    ],
                    [
                        "shadow".to_owned(),
                        count(range.shadow),
                        theory(range.expected_shadow),
                    ],
                    [
                        "retried".to_owned(),
                        count(range.retried),
                        theory(range.expected_retried),
                    ],
                ]
            })
            .unwrap_or_default(),
        range_about: numbers
            .and_then(|vm| vm.range.as_ref())
            .map_or_else(String::new, |range| {
                format!("{} from {:#x}", plural(range.pages, "page"), range.gva)
            }),
        phases: numbers
            .map(|vm| vm.phases.iter().take(PHASES).map(phase).collect())
            .unwrap_or_default(),
        phases_more: numbers
            .and_then(|vm| vm.phases.len().checked_sub(PHASES + 1))
            .map_or_else(String::new, |more| {
                format!("{} more are not listed.", plural(more as u64 + 1, "phase"))
            }),
        counters: counters(of),
        keyframes: keyframes(study, of),
        figures: figures(study, of)?,
        example: example(trace, vm, of),
        ranges,
        ranges_more,
    })
}

/// What changed beside the leaves of faults.
fn changes(vm: &VmSummary) -> Vec<[String; 2]> {
    let entries = vm.entries.iter();
    let entries = entries.map(|(cause, number)| (format!("entry: {cause}"), *number));
    let writes = ("emulated store of the guest".to_owned(), vm.writes);
    let host = vm.host.iter();
    let host = host.map(|(event, number)| (format!("host: {event}"), *number));
    entries
        .chain([writes])
        .chain(host)
        .filter(|(_, number)| *number > 0)
        .map(|(what, number)| [what, count(number)])
        .collect()
}

fn classes(of: &VmStudy) -> Vec<[String; 8]> {
    let whole: u64 = of.costs.iter().map(|(_, cost)| cost.total_ns).sum();
    let mut costs: Vec<_> = of.costs.iter().collect();
    costs.sort_by_key(|(class, cost)| (std::cmp::Reverse(cost.total_ns), *class));
    costs
        .into_iter()
        .map(|(class, cost)| {
            [
                class.name().to_owned(),
                explain::meaning(*class).to_owned(),
                count(cost.count),
                ns(cost.total_ns),
                percent(cost.total_ns, whole),
                ns(cost.p50_ns),
                ns(cost.p95_ns),
                ns(cost.p99_ns),
            ]
        })
        .collect()
}

fn phase(phase: &crate::summary::PhaseSummary) -> [String; 5] {
    let classes: Vec<_> = phase
        .classes
        .iter()
        .map(|(name, number)| format!("{name} {}", count(*number)))
        .collect();
    [
        plain(&phase.name),
        ns(phase.length_ns),
        count(phase.classes.values().sum()),
        percent(phase.total_ns, phase.length_ns),
        classes.join(", "),
    ]
}

fn counters(of: &VmStudy) -> Vec<[String; 5]> {
    let lines = of.reconciliation.iter().flatten();
    lines
        .map(|line| {
            let difference = signed(line.difference());
            let remark = match (line.agrees, line.relation, line.why) {
                (_, Relation::NotCompared, why) => {
                    format!("not compared: {}", why.unwrap_or_default())
                }
                (true, ..) if line.difference() == 0 => "equal".to_owned(),
                (true, Relation::AtMost, _) => "fewer, which may be".to_owned(),
                (true, ..) => format!("{difference} more, which may be"),
                (false, ..) => format!("differs by {difference}"),
            };
            [
                plain(&line.counter),
                signed(line.kvm),
                line.trace.map(signed).unwrap_or_default(),
                remark,
                line.counts.to_owned(),
            ]
        })
        .collect()
}

fn keyframes(study: &Study, of: &VmStudy) -> Vec<[String; 8]> {
    let first = study.span_ns[0];
    // The last ones: drift adds up.
    let skipped = of.checks.kept().len().saturating_sub(KEYFRAMES);
    let checks = of.checks.kept().iter().skip(skipped);
    checks
        .map(|check| {
            let used = match check.used {
                crate::replay::KeyframeUse::Set => "set the state",
                crate::replay::KeyframeUse::Verified => "compared",
                crate::replay::KeyframeUse::Incomplete => "incomplete, not used",
            };
            [
                check.number.to_string(),
                duration(check.time.0.saturating_sub(first) as f64),
                count(check.pages),
                count(check.entries),
                used.to_owned(),
                count(check.drift.entries()),
                count(check.drift.pages()),
                count(check.drift.accessed_dirty),
            ]
        })
        .collect()
}

/// The median of all shadow faults by their time, or the first fault where there is none.
fn example(trace: &Trace, vm: VmId, of: &VmStudy) -> String {
    let shadow = of.costs.iter().find(|(class, _)| *class == Class::Shadow);
    let median = shadow.and_then(|(class, cost)| of.columns.position(*class, cost.p50_ns));
    let selector = Selector::Index(median.unwrap_or(0));
    match explain::find(trace, vm, selector, &mut |_| {}) {
        Ok(explained) => explained.text(100),
        Err(error) => format!("no example: {}", plain(&error.to_string())),
    }
}

fn ranges(study: &Study, vm: VmId) -> (Vec<[String; 7]>, String) {
    let Some(replay) = study.replay.vm(vm) else {
        return (Vec::new(), String::new());
    };
    let mut rows = Vec::new();
    let mut more = 0;
    for root in replay.table_roots().all() {
        for run in replay.ranges(root).runs {
            if rows.len() >= RANGES {
                more += 1;
                continue;
            }
            rows.push([
                root.to_string(),
                run.gva.to_string(),
                run.end().to_string(),
                count(run.entries),
                page_size(run.level.pages()),
                flags::rights(run.first),
                run.first.pfn().to_string(),
            ]);
        }
    }
    let more = if more == 0 {
        String::new()
    } else {
        format!("{} more are not listed.", plural(more, "range"))
    };
    (rows, more)
}

fn method(trace: &Trace) -> Vec<Pair> {
    let meta = trace.meta();
    let parameters: Vec<_> = meta
        .host
        .parameters
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let end = meta.end.as_ref().map(|end| end.reason.clone());
    let pairs = [
        ("command", meta.command.join(" ")),
        (
            "recorder",
            format!("{} {}", meta.tool.name, meta.tool.version),
        ),
        (
            "kernel",
            format!("{} {}", meta.host.kernel, meta.host.kernel_version),
        ),
        ("hypervisor", meta.host.hypervisor.clone()),
        (
            "processor",
            format!("{} ({} online)", meta.host.cpu, meta.host.cpus),
        ),
        ("module parameters", parameters.join(" ")),
        ("lockdown", meta.host.lockdown.clone()),
        ("clock", meta.clock.clone()),
        ("ring buffer", bytes(meta.ring_bytes)),
        ("end", end.unwrap_or_else(|| "cut".to_owned())),
        ("schema", format!("version {}", meta.schema)),
    ];
    pairs
        .into_iter()
        .filter(|(_, value)| !value.trim().is_empty())
        .map(|(name, value)| Pair {
            name: name.to_owned(),
            value: plain(&value),
        })
        .collect()
}

/// Hooks that were refused, together where the kernel said the same: `a, b: not permitted`. The
/// note of a probe that is not there tells the first one's.
fn refusals(probe: &ProbeState) -> String {
    let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
    for one in probe.tried.iter().skip(usize::from(!probe.attached)) {
        match said.iter_mut().find(|(why, _)| *why == one.refused) {
            Some((_, hooks)) => hooks.push(&one.hook),
            None => said.push((&one.refused, vec![&one.hook])),
        }
    }
    let words = said
        .iter()
        .map(|(why, hooks)| format!("{}: {why}", hooks.join(", ")));
    words.collect::<Vec<_>>().join("; ")
}

fn probes(trace: &Trace) -> Vec<Probe> {
    let meta = trace.meta();
    let programs = meta
        .end
        .as_ref()
        .map(|end| end.programs.as_slice())
        .unwrap_or_default();
    meta.probes
        .iter()
        .map(|probe| {
            let cost = programs
                .iter()
                .find(|program| program.name == probe.name && program.runs > 0);
            Probe {
                hook: plain(&probe.hook),
                attached: probe.attached,
                note: plain(&probe.note),
                refused: plain(&refusals(probe)),
                cost: cost.map_or_else(String::new, |cost| {
                    format!(
                        "{} x {}",
                        count(cost.runs),
                        duration(cost.ns as f64 / cost.runs as f64)
                    )
                }),
            }
        })
        .collect()
}

/// What theory gives, if it gives anything.
fn theory(expected: Option<u64>) -> String {
    expected.map_or_else(|| "-".to_owned(), count)
}
