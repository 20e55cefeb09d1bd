//! The verification as text.

use super::{KeyframeSummary, Verification, VmVerification};
use crate::text::{
    Grid, plain,
    units::{count, plural, signed, since},
};

/// Spans and anomalies listed.
const LISTED: usize = 20;

/// The verification for a terminal, without the lines that go above it.
pub fn text(of: &Verification) -> String {
    let mut out = String::new();
    if !of.unvouched.is_empty() {
        out.push_str("\nCannot be vouched for\n");
        let mut grid = Grid::new(&[">from", ">to", "why"]);
        for span in of.unvouched.iter().take(LISTED) {
            grid.row([
                since(span.from_ns, 0),
                since(span.to_ns, 0),
                span.why.clone(),
            ]);
        }
        out.push_str(&grid.text(2));
        more(&mut out, of.unvouched.len());
    }
    for vm in &of.vms {
        let ended = match &vm.ended {
            Some(why) => format!(": ended, {}", plain(why)),
            None => String::new(),
        };
        out.push_str(&format!("\nVM {} ({}){ended}\n", vm.vm, vm.about));
        keyframes(&mut out, vm);
        anomalies(&mut out, vm);
        faults(&mut out, vm);
        reconciliation(&mut out, vm);
    }
    out
}

fn more(out: &mut String, number: usize) {
    if number > LISTED {
        out.push_str(&format!(
            "  and {} more; --json lists all\n",
            count((number - LISTED) as u64)
        ));
    }
}

fn keyframes(out: &mut String, vm: &VmVerification) {
    if vm.keyframes.is_empty() {
        out.push_str("  no keyframe: the replayed tables were compared with nothing\n");
        return;
    }
    let mut grid = Grid::new(&[
        ">keyframe",
        ">at",
        ">seq",
        ">pages",
        ">entries",
        "used",
        ">entries off",
        ">pages off",
        ">late",
        ">A/D only",
        ">no SPTE",
    ]);
    for keyframe in &vm.keyframes {
        let verified = keyframe.used == "verified";
        let shown = |number: u64| {
            if verified {
                count(number)
            } else {
                String::new()
            }
        };
        let pages = if keyframe.pages == keyframe.announced {
            count(keyframe.pages)
        } else {
            format!("{} of {}", count(keyframe.pages), count(keyframe.announced))
        };
        grid.row([
            keyframe.number.to_string(),
            since(keyframe.time_ns, 0),
            count(keyframe.seq),
            pages,
            count(keyframe.entries),
            keyframe.used.to_owned(),
            shown(keyframe.drift.entries),
            shown(keyframe.drift.pages),
            shown(keyframe.drift.late.entries),
            shown(keyframe.drift.accessed_dirty),
            count(keyframe.foreign),
        ]);
    }
    out.push_str(&grid.text(2));
    let left_out = vm.keyframes_taken.saturating_sub(vm.keyframes.len() as u64);
    if left_out > 0 {
        let keyframes = plural(left_out, "keyframe");
        out.push_str(&format!("  and {keyframes} without a difference\n"));
    }
    for keyframe in &vm.keyframes {
        differences(out, keyframe);
        late(out, keyframe);
    }
}

fn differences(out: &mut String, keyframe: &KeyframeSummary) {
    if keyframe.first.is_empty() {
        return;
    }
    let kinds: Vec<_> = keyframe
        .drift
        .kinds
        .iter()
        .map(|(kind, number)| format!("{kind} {}", count(*number)))
        .collect();
    out.push_str(&format!(
        "\n  Keyframe {}: {}; the first ones\n",
        keyframe.number,
        kinds.join(", ")
    ));
    let mut grid = Grid::new(&[
        "kind",
        ">level",
        "place",
        "replayed",
        "kernel",
        ">after seq",
    ]);
    for difference in &keyframe.first {
        let of_page = difference.kind.ends_with("page") || difference.kind == "other_level";
        let value = |value: u64| {
            if of_page {
                String::new()
            } else {
                format!("{value:#018x}")
            }
        };
        grid.row([
            difference.kind.to_owned(),
            difference.level.to_string(),
            format!("{:#x}", difference.place),
            value(difference.replayed),
            value(difference.kernel),
            difference.after_seq.map(count).unwrap_or_default(),
        ]);
    }
    out.push_str(&grid.text(2));
}

/// What only this keyframe showed, why, and between which moments it happened.
fn late(out: &mut String, keyframe: &KeyframeSummary) {
    if keyframe.late.is_empty() {
        return;
    }
    let entries = plural(keyframe.drift.late.entries, "change");
    out.push_str(&format!(
        "\n  Keyframe {}: {entries} seen late\n",
        keyframe.number
    ));
    for (name, kind) in &keyframe.drift.late.kinds {
        out.push_str(&format!(
            "    {name} {}: {} ({})\n",
            count(kind.entries),
            kind.why,
            kind.writers.join(", ")
        ));
    }
    let mut grid = Grid::new(&[
        "kind",
        ">level",
        "place",
        "replayed",
        "kernel",
        ">after",
        ">after seq",
        ">before",
        ">before seq",
    ]);
    for change in &keyframe.late {
        grid.row([
            change.late.unwrap_or_default().to_owned(),
            change.level.to_string(),
            format!("{:#x}", change.place),
            format!("{:#018x}", change.replayed),
            format!("{:#018x}", change.kernel),
            change.after_ns.map(|ns| since(ns, 0)).unwrap_or_default(),
            change.after_seq.map(count).unwrap_or_default(),
            since(keyframe.time_ns, 0),
            count(keyframe.seq),
        ]);
    }
    out.push_str(&grid.text(2));
}

fn anomalies(out: &mut String, vm: &VmVerification) {
    let total: u64 = vm.anomaly_counts.values().sum();
    if total == 0 {
        return;
    }
    out.push_str(&format!("\n  {}\n", plural(total, "impossible transition")));
    let mut grid = Grid::new(&[">seq", ">at", "place", "what"]);
    for anomaly in vm.anomalies.iter().take(LISTED) {
        grid.row([
            count(anomaly.seq),
            since(anomaly.time_ns, 0),
            format!("{:#x}", anomaly.place),
            anomaly.meaning.clone(),
        ]);
    }
    out.push_str(&grid.text(2));
    more(out, usize::try_from(total).unwrap_or(usize::MAX));
}

fn faults(out: &mut String, vm: &VmVerification) {
    out.push_str("\n  The numbers of each fault\n");
    let mut grid = Grid::new(&["check", ">faults", ">wrong", ""]);
    for check in &vm.faults {
        let first = check
            .first_seq
            .map(|seq| format!("first: seq {}", count(seq)))
            .unwrap_or_default();
        grid.row([
            check.check.to_owned(),
            count(check.checked),
            count(check.wrong),
            first,
        ]);
    }
    out.push_str(&grid.text(2));
}

fn reconciliation(out: &mut String, vm: &VmVerification) {
    let Some(lines) = &vm.reconciliation else {
        out.push_str("\n  KVM's counters of the end are not in this trace\n");
        return;
    };
    out.push_str("\n  KVM's own counters\n");
    let mut grid = Grid::new(&["counter", ">KVM", ">trace", "", "counts"]);
    for line in lines {
        let counts = match line.why {
            Some(why) => format!("{}; {why}", line.counts),
            None => line.counts.to_owned(),
        };
        grid.row([
            plain(&line.counter),
            signed(line.kvm),
            line.trace.map(signed).unwrap_or_default(),
            line.verdict.to_owned(),
            counts,
        ]);
    }
    out.push_str(&grid.text(2));
}
