//! Whether a trace can be trusted: in one line, and in a few.

use events::VmId;
use trace::Trace;

use crate::{
    audit::{Doubt, VmAudit},
    study::{LeftOut, Study, VmStudy},
    text::{
        plain,
        units::{count, plural, since},
    },
};

/// One statement on the quality of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Nothing to worry about.
    pub good: bool,
    /// The statement.
    pub text: String,
}

impl Line {
    /// All is well.
    pub fn good(text: impl Into<String>) -> Self {
        Self::new(true, text)
    }

    /// Something is wrong.
    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(false, text)
    }

    fn new(good: bool, text: impl Into<String>) -> Self {
        Self {
            good,
            text: text.into(),
        }
    }
}

/// The verdict below the warnings: what a command prints above its tables.
pub fn lines(trace: &Trace, study: &Study) -> Vec<Line> {
    let mut lines = warnings(trace, study);
    lines.push(line(trace, study));
    lines
}

/// What must be said above everything else: the trace was cut, is damaged, or has too many VMs.
/// Empty for most.
pub fn warnings<F>(trace: &Trace, study: &Study<F>) -> Vec<Line> {
    let damage = study.damage.as_ref().map(|damage| {
        let text = format!("DAMAGED: {damage}; what follows is from the records before");
        Line::new(false, text)
    });
    let lines = cut(trace).into_iter().chain(damage);
    let lines = lines.chain(left_out(study));
    let lines = lines.chain(begins_late(trace));
    lines.chain(imported(trace)).collect()
}

/// What a command says above its tables that prints no verdict: the warnings, that there is nothing
/// to print, what is lost.
pub fn cautions<F>(trace: &Trace, study: &Study<F>) -> Vec<Line> {
    let loss = Some(loss(study)).filter(|line| !line.good);
    let none = study.vms.is_empty();
    let none = none.then(|| Line::bad("no VM was seen: there is nothing to show"));
    let lines = warnings(trace, study).into_iter();
    lines.chain(none).chain(loss).collect()
}

/// The trace was made from text, and what that lacks.
fn imported(trace: &Trace) -> Option<Line> {
    let imported = trace.meta().imported.as_ref()?;
    let text = format!(
        "imported from the kernel's trace text, without shadow tables, CR3 and counters; {} of \
         which it does not show the outcome left out",
        plural(imported.unclassified, "fault")
    );
    Some(Line::new(imported.unclassified == 0, text))
}

/// The recorder kept only its last part, and why it ended there.
fn begins_late(trace: &Trace) -> Option<Line> {
    let kept = trace.meta().kept.as_ref()?;
    let mut words = match kept.begin {
        None => "kept whole: nothing was dropped".to_owned(),
        Some(begin) => {
            let first = match begin.keyframe {
                true => "with a keyframe",
                false => "before its first keyframe, which the limit of bytes took",
            };
            format!(
                "begins {first}: {} before were dropped",
                plural(kept.dropped.rows, "row")
            )
        }
    };
    let until = match (&kept.event, &trace.meta().end) {
        (Some(event), _) => Some(event.time_ns),
        (None, end) => end.as_ref().map(|end| end.time_ns),
    };
    let left = kept.begin.zip(until);
    let left = left.map(|(begin, until)| until.saturating_sub(begin.time_ns));
    if let Some(left) = left.filter(|left| *left < kept.keep_ns) {
        words += &format!(
            "; the limit of bytes left {} of {}",
            since(left, 0),
            since(kept.keep_ns, 0)
        );
        words += if kept.event.is_some() {
            " before the event"
        } else {
            ""
        };
    }
    if let Some(event) = &kept.event {
        let [start, _] = trace.span_ns().unwrap_or_default();
        let seq = event.seq.map(|seq| format!(", seq {seq}"));
        let dropped = kept
            .begin
            .is_some_and(|begin| event.time_ns < begin.time_ns);
        let at = match dropped {
            false => format!("after {}", since(event.time_ns, start)),
            true => format!(
                "{} before the beginning, DROPPED with what was around it",
                since(start, event.time_ns)
            ),
        };
        words += &format!(
            "; {} {at}{}: {}; recorded on for {}",
            plain(&event.on),
            seq.unwrap_or_default(),
            plain(&event.what),
            since(kept.after_ns, 0)
        );
        if dropped {
            return Some(Line::bad(words));
        }
    }
    Some(Line::good(words))
}

/// The trace has more VMs than are followed.
fn left_out<F>(study: &Study<F>) -> Option<Line> {
    let LeftOut { vms, records } = &study.left_out;
    let first = vms.first()?.0;
    let text = format!(
        "{} of {} left out: only {} VMs are followed at a time; --vm {first} shows one of the others",
        plural(*records, "record"),
        plural(vms.len() as u64, "VM"),
        count(study.vms.len() as u64),
    );
    Some(Line::new(false, text))
}

/// The trace was cut.
pub fn cut(trace: &Trace) -> Option<Line> {
    if !trace.was_cut() {
        return None;
    }
    let missing: u64 = trace.missing().iter().map(|segment| segment.rows).sum();
    let announced = match missing {
        0 => String::new(),
        missing => format!("; {} announced and not written", plural(missing, "row")),
    };
    let left = match trace.left_over().as_slice() {
        [] => String::new(),
        [first, others @ ..] => {
            let others = match others.len() {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            let first = plain(&first.display().to_string());
            format!("; it left {first}{others}, which is read by nobody and may be removed")
        }
    };
    let text = format!(
        "CUT: the recorder was stopped before its end, the last moments are \
         missing{announced}{left}"
    );
    Some(Line::new(false, text))
}

/// One line that says whether everything is as it should be.
pub fn line(trace: &Trace, study: &Study) -> Line {
    if trace.meta().imported.is_some() {
        let loss = loss(study);
        return Line::new(loss.good, format!("imported, not verified: {}", loss.text));
    }
    if is_exact(trace, study) {
        let keyframes: u64 = study.vms.values().map(VmStudy::verified).sum();
        let compared = plural(keyframes, "keyframe");
        let late: u64 = study.vms.values().map(|vm| vm.drift().late.total()).sum();
        let late = match late {
            0 => String::new(),
            late => format!(
                ", {} seen late (this host has no event for them)",
                plural(late, "change")
            ),
        };
        return Line::new(
            true,
            format!(
                "exact: 0 entries drifted in {compared}{late}, 0 records lost, every comparable \
                 counter agrees"
            ),
        );
    }
    let failed: Vec<String> = quality(study)
        .into_iter()
        .filter(|line| !line.good)
        .map(|line| line.text)
        .collect();
    if failed.is_empty() {
        return Line::new(false, "not exact: the trace is not whole");
    }
    Line::new(false, format!("not exact: {}", failed.join("; ")))
}

/// Whether `verify` passes.
pub fn is_exact(trace: &Trace, study: &Study) -> bool {
    let is_whole = !trace.was_cut() && study.damage.is_none() && study.left_out.records == 0;
    is_whole && quality(study).iter().all(|line| line.good)
}

/// Every aspect of the data's quality.
pub fn quality(study: &Study) -> Vec<Line> {
    let mut lines = vec![loss(study)];
    if study.vms.is_empty() {
        lines.push(Line::new(false, "no VM was seen, so nothing is proved"));
    }
    if study.gaps.repeated() > 0 {
        let repeated = plural(study.gaps.repeated(), "sequence number");
        lines.push(Line::new(false, format!("{repeated} used twice")));
    }
    let several = study.vms.len() > 1;
    for (vm, of) in &study.vms {
        let name = if several {
            format!("VM {}: ", vm.0)
        } else {
            String::new()
        };
        lines.extend(
            vm_quality(of, &audit(study, *vm, of))
                .into_iter()
                .map(|line| Line {
                    text: format!("{name}{}", line.text),
                    ..line
                }),
        );
    }
    lines
}

/// What the audit of a VM found.
pub fn audit(study: &Study, vm: VmId, of: &VmStudy) -> VmAudit {
    VmAudit::of(vm, &of.audit, &Doubt::of(study), study.span_ns[0])
}

/// What is lost. It counts for every VM: which one a missing record was of is not known.
pub fn loss<F>(study: &Study<F>) -> Line {
    let lost = study.lost_records();
    if lost == 0 {
        return Line::new(true, "0 records lost");
    }
    let probes: Vec<_> = study
        .lost_by_probe()
        .iter()
        .map(|(probe, n)| format!("{probe} {}", count(*n)))
        .collect();
    let probes = if probes.is_empty() {
        String::new()
    } else {
        format!(" ({})", probes.join(", "))
    };
    let gaps = plural(study.gaps.gaps().len() as u64, "gap");
    let reasons: Vec<_> = study
        .lost_by_probe()
        .keys()
        .filter_map(|probe| Some(format!("; {probe}: {}", reason(probe)?)))
        .collect();
    Line::new(
        false,
        format!(
            "{} lost{probes} in {gaps}: the tables after a gap may be wrong{}",
            plural(lost, "record"),
            reasons.concat()
        ),
    )
}

/// What a probe lost that did not lack room in the ring.
fn reason(probe: &str) -> Option<&'static str> {
    Some(match probe {
        "page_map" => {
            "the map of shadow pages or of vCPUs was full, and changes of those that came later \
             have no records until the next keyframe"
        }
        "shadows" => {
            "a table of the guest had more than 8 shadow pages, and what stores to it changed in \
             the others is seen at the next keyframe"
        }
        "unsync" => {
            "not every unsync page was compared with its copy, and its changes are seen at the \
             next keyframe"
        }
        "read" => "the kernel's memory could not be read where a record needs it",
        _ => return None,
    })
}

fn vm_quality(vm: &VmStudy, audit: &VmAudit) -> Vec<Line> {
    let drift = vm.drift();
    let keyframes = plural(vm.verified(), "keyframe");
    let mut lines = Vec::new();
    lines.push(match vm.verified() {
        0 => Line::new(false, "no keyframe to compare with: drift unknown"),
        _ if drift.is_exact() => Line::new(
            true,
            format!("0 entries and 0 pages drifted in {keyframes}"),
        ),
        _ => {
            let (entries, pages) = (
                plural(drift.entries(), "entry"),
                plural(drift.pages(), "page"),
            );
            Line::new(
                false,
                format!("{entries} and {pages} drifted in {keyframes}"),
            )
        }
    });
    let late = drift.late.total();
    if late > 0 {
        let late = plural(late, "change");
        let text = format!("{late} seen late, by a keyframe only: this host has no event for them");
        lines.push(Line::new(true, text));
    }
    let anomalies = vm.anomalies.total();
    if anomalies > 0 {
        lines.push(Line::new(false, plural(anomalies, "impossible transition")));
    }
    lines.push(Line::new(audit.is_clean(), audit.line()));
    if vm.records.agreement.wrong() > 0 {
        lines.push(Line::new(
            false,
            format!(
                "{} whose own numbers disagree",
                plural(vm.records.agreement.wrong(), "fault")
            ),
        ));
    }
    lines.push(match (&vm.reconciliation, vm.unreconciled()) {
        (None, _) => Line::new(false, "no counters of KVM to reconcile with"),
        (Some(_), 0) => Line::new(true, "KVM's counters agree"),
        (Some(lines), differ) => {
            let compared = lines.iter().filter(|line| line.trace.is_some()).count();
            let text = format!("{differ} of {compared} compared counters of KVM differ");
            Line::new(false, text)
        }
    });
    lines
}
