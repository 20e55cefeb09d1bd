//! The verification as sentences and tables.

use events::Spte;

use super::{KeyframeSummary, Unvouched, Verification, VmVerification};
use crate::{
    summary::{Detail, counters, late},
    text::{
        Cell, Column, Document, Section, Table, plain,
        units::{count, plural},
    },
};

/// Spans and anomalies that people are shown.
const LISTED: usize = 20;

/// The verification, without the verdict that goes above it.
pub fn document(of: &Verification) -> Document {
    let mut sections = Vec::new();
    if !of.unvouched.is_empty() {
        sections.push(Section {
            title: "Records may be missing in these spans".to_owned(),
            tables: vec![unvouched(&of.unvouched)],
            ..Section::default()
        });
    }
    sections.extend(of.vms.iter().map(section));
    Document {
        sections,
        ..Document::default()
    }
}

fn unvouched(spans: &[Unvouched]) -> Table {
    let columns = [
        Column::time("from"),
        Column::time("to"),
        Column::words("why"),
    ];
    let mut table = Table::new("missing", "", columns).first(LISTED);
    for span in spans {
        table.row([
            Cell::At(span.from_ns),
            Cell::At(span.to_ns),
            Cell::words(&span.why),
        ]);
    }
    table
}

fn section(vm: &VmVerification) -> Section {
    let ended = match &vm.ended {
        Some(why) => format!(": ended, {}", plain(why)),
        None => String::new(),
    };
    let mut lines = Vec::new();
    if vm.keyframes.is_empty() {
        lines.push("no keyframe: the replayed tables were compared with nothing".to_owned());
    }
    if vm.reconciliation.is_none() {
        lines.push("KVM's counters at the end are not in this trace: none is compared".to_owned());
    }
    lines.push(vm.audit.line());
    let left_out = vm.keyframes_taken.saturating_sub(vm.keyframes.len() as u64);
    let keyframes = match left_out {
        0 => keyframes(&vm.keyframes),
        more => keyframes(&vm.keyframes).more(format!(
            "and {} without a difference",
            plural(more, "keyframe")
        )),
    };
    Section {
        vm: Some(vm.vm),
        title: format!("VM {} ({}){ended}", vm.vm, vm.about),
        lines,
        tables: vec![
            keyframes,
            differences(vm),
            late(&vm.drift.late),
            late_changes(vm),
            anomalies(vm),
            checks(vm),
            counters(
                vm.reconciliation.as_deref().unwrap_or_default(),
                Detail::Full,
            ),
        ],
    }
}

/// Each keyframe and how replay compares with it.
pub fn keyframes(keyframes: &[KeyframeSummary]) -> Table {
    let whole = keyframes.iter().all(|of| of.pages == of.announced);
    let mut columns = vec![
        Column::number("keyframe"),
        Column::time("at"),
        Column::number("seq"),
        Column::number("pages"),
        Column::number("entries"),
        Column::code("used"),
        Column::number("entries off"),
        Column::number("pages off"),
        Column::number("late"),
        Column::number("A/D only"),
    ];
    let stopped = keyframes.iter().any(|of| of.stopped_ns.is_some());
    if stopped {
        columns.push(Column::time("stopped"));
    }
    if !whole {
        columns.push(Column::number("pages copied"));
    }
    let title = "Keyframes: copies of the kernel's own tables";
    let mut note = "Entries that differ only in A and D are not drift: the processor sets those \
                    bits itself."
        .to_owned();
    if keyframes.iter().any(|keyframe| keyframe.used == "set") {
        note.push_str(" `set`: replay took its tables from this keyframe.");
    }
    if stopped {
        note.push_str(" `stopped`: for how long the VM had been stopped when it was copied.");
    }
    let mut table = Table::new("keyframes", title, columns).note(note);
    for keyframe in keyframes {
        let verified = keyframe.used == "verified";
        let compared = |number: u64| match verified {
            true => Cell::Count(number),
            false => Cell::Absent,
        };
        let cells = [
            Cell::Count(keyframe.number.into()),
            Cell::At(keyframe.time_ns),
            Cell::Count(keyframe.seq),
            Cell::Count(keyframe.pages),
            Cell::Count(keyframe.entries),
            Cell::words(keyframe.used),
            compared(keyframe.drift.entries),
            compared(keyframe.drift.pages),
            compared(keyframe.drift.late.entries),
            compared(keyframe.drift.accessed_dirty),
        ];
        let copied = (!whole).then_some(Cell::Count(keyframe.announced));
        let stop = stopped.then(|| keyframe.stopped_ns.map_or(Cell::Absent, Cell::Time));
        table.row(cells.into_iter().chain(stop).chain(copied));
    }
    table
}

fn differences(vm: &VmVerification) -> Table {
    let columns = [
        Column::number("keyframe"),
        Column::code("kind"),
        Column::number("level"),
        Column::code("place"),
        Column::code("replayed"),
        Column::code("kernel"),
        Column::number("after seq"),
    ];
    let kinds = vm.drift.kinds.iter();
    let kinds = kinds.map(|(kind, number)| format!("{kind} {}", count(*number)));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let title = format!("Differences, the first of each keyframe; in all: {kinds}");
    let mut table = Table::new("differences", title, columns);
    for keyframe in &vm.keyframes {
        for difference in &keyframe.first {
            let of_page = difference.kind.ends_with("page") || difference.kind == "other_level";
            let entry = |entry: Spte| match of_page {
                true => Cell::Absent,
                false => Cell::Entry(entry.0),
            };
            table.row([
                Cell::Count(keyframe.number.into()),
                Cell::words(difference.kind),
                Cell::Count(difference.level.into()),
                Cell::Address(difference.place.0),
                entry(difference.replayed),
                entry(difference.kernel),
                Cell::count(difference.after_seq),
            ]);
        }
    }
    table
}

/// Each change that a keyframe showed late, with the last moment at which it had not happened.
fn late_changes(vm: &VmVerification) -> Table {
    let columns = [
        Column::number("keyframe"),
        Column::code("kind"),
        Column::code("place"),
        Column::code("replayed"),
        Column::code("kernel"),
        Column::time("after"),
        Column::number("after seq"),
    ];
    let title = "Each of them, the first of each keyframe; it came before the keyframe and after";
    let mut table = Table::new("late_changes", title, columns);
    for keyframe in &vm.keyframes {
        for change in &keyframe.late {
            table.row([
                Cell::Count(keyframe.number.into()),
                Cell::words(change.late.unwrap_or_default()),
                Cell::Address(change.place.0),
                Cell::Entry(change.replayed.0),
                Cell::Entry(change.kernel.0),
                change.after_ns.map_or(Cell::Absent, Cell::At),
                Cell::count(change.after_seq),
            ]);
        }
    }
    table
}

fn anomalies(vm: &VmVerification) -> Table {
    let columns = [
        Column::number("seq"),
        Column::time("at"),
        Column::code("place"),
        Column::words("what"),
    ];
    let total: u64 = vm.anomaly_counts.values().sum();
    let title = plural(total, "impossible transition");
    let mut table = Table::new("impossible", title, columns).first(LISTED);
    for anomaly in &vm.anomalies {
        table.row([
            Cell::Count(anomaly.seq),
            Cell::At(anomaly.time_ns),
            Cell::Address(anomaly.place.0),
            Cell::words(&anomaly.meaning),
        ]);
    }
    match total.saturating_sub(vm.anomalies.len() as u64) {
        0 => table,
        more => table.more(format!("{} more are only counted", count(more))),
    }
}

fn checks(vm: &VmVerification) -> Table {
    let columns = [
        Column::code("check"),
        Column::number("faults"),
        Column::number("wrong"),
        Column::number("first seq"),
    ];
    let title = "Whether the numbers of each fault agree";
    let mut table = Table::new("checks", title, columns);
    for check in &vm.faults {
        table.row([
            Cell::words(check.check),
            Cell::Count(check.checked),
            Cell::Count(check.wrong),
            Cell::count(check.first_seq),
        ]);
    }
    table
}
