//! What a step shows of a guest, in a sentence that is always there.

use events::{Class, ErrorCode, Level, PageEvent};
use trace::FaultRow;

use super::{
    answers::{absent, is_new, leaf_store, lowest_table},
    rows::Row,
    scan::Around,
};
use crate::{
    explain::FaultFacts,
    faults::{guest_walk, refuses},
    text::units::{count, ns, plural},
};

/// `the program writes to 0x8000001000`.
pub(super) fn access(of: &FaultFacts) -> String {
    let code = of.row.error_code;
    let who = match code.has(ErrorCode::USER) {
        true => "program",
        false => "guest's kernel",
    };
    let does = match (code.has(ErrorCode::FETCH), code.has(ErrorCode::WRITE)) {
        (true, _) => "fetches an instruction at",
        (false, true) => "writes to",
        (false, false) => "reads",
    };
    format!("the {who} {does} {}", of.row.gva)
}

/// Which fault the access was. One that KVM passed on has its entry written in a later fault.
pub(super) fn about(of: &FaultFacts, around: &Around) -> String {
    let of_record = |index, row: &FaultRow| {
        let after = row.time_ns.0.saturating_sub(of.start_ns);
        format!(
            "Fault {} of the recording (record {}), {} after its start",
            count(index),
            count(row.seq.0),
            ns(after)
        )
    };
    match &around.passed_on {
        Some(passed) => format!(
            "{}; fault {} (record {}) follows in steps 2 to 4",
            of_record(passed.index, &passed.row),
            count(of.index),
            count(of.row.seq.0)
        ),
        None => of_record(of.index, &of.row),
    }
}

/// The access.
pub(super) fn zeroth(of: &FaultFacts, around: &Around) -> String {
    let guest = match &around.passed_on {
        Some(passed) => guest_walk(&passed.row),
        None => of.guest_walk.clone(),
    };
    let missing = guest.iter().find(|step| !step.gpte.is_present());
    let guest = match missing {
        Some(step) => format!(
            "The guest's entry of level {} is {}",
            step.level,
            absent(step)
        ),
        None if around.passed_on.is_some() => {
            "The guest's table does not allow this access".to_owned()
        }
        None => "The guest's table maps the page".to_owned(),
    };
    let shadow = match around.at_access().last() {
        None => "What the shadow table had is not seen".to_owned(),
        Some(step) if step.spte.is_empty() && step.level == Level(1) => {
            "The shadow table exists down to level 1, and its entry there is empty".to_owned()
        }
        Some(step) if step.spte.is_empty() => format!(
            "The shadow entry of level {} is empty, and below it there is no shadow table",
            step.level
        ),
        Some(step) if refuses(step.spte, of.row.error_code) => format!(
            "The shadow entry of level {} is there, but does not allow this access",
            step.level
        ),
        Some(step) => format!("The shadow entry of level {} is there", step.level),
    };
    format!("{guest}. {shadow}.")
}

/// The guest's store.
pub(super) fn first(of: &FaultFacts) -> String {
    if of.row.class == Class::WriteProtected {
        return "The access is itself a store to a guest table that KVM write-protected: the step \
                as the lecture has it. The tables here are those that lead to that table."
            .to_owned();
    }
    if let Some(stored) = leaf_store(of) {
        let before = of.row.time_ns.0.saturating_sub(stored.time_ns.0);
        return format!(
            "Marked: the entry that the guest's kernel stored, {} before the fault that steps 2 \
             to 4 show.",
            ns(before)
        );
    }
    match is_new(of) {
        true => format!(
            "Nothing changes: the guest had filled its table of level 1{} before KVM had a \
             shadow of it.",
            lowest_table(of).map_or_else(String::new, |table| format!(" ({table})"))
        ),
        false => "Nothing changes: the entry is there already.".to_owned(),
    }
}

/// The memslot.
pub(super) fn second(of: &FaultFacts) -> String {
    match &of.memslot {
        Some(slot) => format!(
            "Slot {} begins at GPA {} and at HVA {}. No table changes.",
            slot.slot, slot.gpa, slot.hva
        ),
        None => "The slot is not seen. No table changes.".to_owned(),
    }
}

/// The host's frame.
pub(super) fn third() -> String {
    "The host's own page table is a third one. These two do not change.".to_owned()
}

/// The shadow entry.
pub(super) fn fourth(of: &FaultFacts, guest: &[Row], shadow: &[Row]) -> String {
    let changed = |rows: &[Row]| rows.iter().filter(|row| row.is_changed()).count() as u64;
    let (guest, shadow) = (changed(guest), changed(shadow));
    if shadow == 0 {
        return match of.row.class {
            Class::WriteProtected => {
                "No shadow entry is written: KVM carries out the store.".to_owned()
            }
            _ => "No shadow entry changes.".to_owned(),
        };
    }
    let made = of.pages.iter();
    let made = made.filter(|page| page.row.event == PageEvent::Born);
    let made = match made.count() as u64 {
        0 => String::new(),
        made => format!("made {} and ", plural(made, "shadow table")),
    };
    let bits = match guest {
        0 => String::new(),
        1 => "; bits of 1 guest entry changed".to_owned(),
        some => format!("; bits of {} guest entries changed", count(some)),
    };
    let entries = match shadow {
        1 => "1 shadow entry".to_owned(),
        some => format!("{} shadow entries", count(some)),
    };
    format!("Marked: KVM {made}wrote {entries}{bits}.")
}

/// What follows.
pub(super) fn fifth(of: &FaultFacts, around: &Around) -> String {
    let mapped = around.next.iter().filter(|page| page.is_mapped);
    let mapped: Vec<_> = mapped.map(|page| page.gva.to_string()).collect();
    if mapped.is_empty() {
        return "The recording has no fault on the next pages.".to_owned();
    }
    let first = around.next.iter().find_map(|page| page.time_ns);
    let after = first.map(|first| first.0.saturating_sub(of.row.time_ns.0));
    let after = after.map_or_else(String::new, |after| {
        format!(", from {} later on", ns(after))
    });
    format!(
        "Marked: what the faults on {} changed{after}.",
        mapped.join(" and ")
    )
}
