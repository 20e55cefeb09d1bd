//! A change of an entry: which, what, why, what led to it, what followed.

use events::{Cause, TimeNs};

use super::record;
use crate::{
    explain::{
        facts::{ChangeFacts, Fate},
        render::{Lines, value},
        words::{self, kernel},
    },
    text::{
        flags,
        units::{count, ns, plural, since},
    },
};

/// The story of a change.
pub fn change(out: &mut Lines, of: &ChangeFacts) {
    let row = &of.row;
    out.line(
        0,
        format!(
            "Change {} of VM {} on {}, {} after the start (seq {}){}",
            of.index,
            row.vm.0,
            words::thread(row.vcpu),
            since(row.time_ns.0, of.start_ns),
            row.seq.0,
            words::phase(of.phase.as_ref()),
        ),
    );
    out.line(2, format!("{}: {}", row.cause.name(), of.clause));
    if of.missing_records_since_keyframe > 0 {
        let missing = plural(of.missing_records_since_keyframe, "record");
        let line = format!(
            "missing before it: {missing}; what follows on the tables may be \
                            wrong"
        );
        out.line(2, line);
    }
    out.blank();
    which(out, of);
    difference(out, of);
    out.section(3, &format!("Why: {}", of.function));
    if let (Cause::GuestWrite, Some(table)) = (of.row.cause, &of.table) {
        out.line(3, kernel::emulated(table.unsync));
    }
    out.line(3, of.detail);
    causes(out, of);
    followed(out, of);
    if let Some(bill) = &of.bill {
        out.blank();
        record::came_of(out, bill);
    }
    out.blank();
    out.line(0, flags::LEGEND);
}

fn which(out: &mut Lines, of: &ChangeFacts) {
    out.section(1, "Which entry");
    let row = &of.row;
    let place = row.sptep;
    let Some(table) = of.table else {
        let level = row.level;
        return out.line(
            3,
            format!("level {level} entry {place}, in an unknown table"),
        );
    };
    let (index, level, spt) = (place.index(), table.level, table.spt);
    out.line(
        3,
        format!("entry {index} of level {level} table {spt}, at {place}"),
    );
    let shadows = match (table.direct, table.unsync) {
        (true, _) => "is direct and shadows no guest table: it maps from",
        (false, true) => "is unsync, and shadows the guest's table at",
        (false, false) => "shadows the guest's table at",
    };
    out.line(3, format!("the table {shadows} gfn {}", table.gfn));
    out.translations(3, &of.translations);
    if let Some(entry) = &of.guest_entry {
        out.guest_entry(entry, row.time_ns);
        let is_unseen = matches!(row.cause, Cause::Sync | Cause::Invlpg);
        if is_unseen {
            out.line(6, "(stores to an unsync table are not seen)");
        }
        let later = of.guest_entry_later.as_ref();
        if let Some(later) = later.filter(|_| is_unseen || entry.known.is_none()) {
            out.later_gpte(later);
        }
    }
}

fn difference(out: &mut Lines, of: &ChangeFacts) {
    let row = &of.row;
    out.section(2, "What changed");
    let old = row.old.map_or("unknown".to_owned(), value);
    out.line(3, format!("{old} -> {}", value(row.spte)));
    if row.old.is_some() && !of.old_is_recorded {
        out.line(
            3,
            "(the value before is from replay: this probe does not read it)",
        );
    }
    of.changed.iter().for_each(|line| out.line(3, line));
    if let Some(gfn) = row.gfn {
        out.line(3, format!("the guest's frame is gfn {gfn}"));
    }
    if let Some(by) = &of.stored_before {
        let age = ns(row.time_ns.0.saturating_sub(by.time_ns.0));
        out.line(
            3,
            format!("it was stored {age} before, by {}", words::writer(by)),
        );
    }
}

fn causes(out: &mut Lines, of: &ChangeFacts) {
    out.section(4, "What led to it");
    let time = of.row.time_ns;
    let store = of.store.as_ref();
    if let Some(store) = store.filter(|_| of.row.cause == Cause::GuestWrite) {
        let age = ns(time.0.saturating_sub(store.time_ns.0));
        let intro = format!("the guest's entry was stored by the emulator, {age} earlier");
        out.store(3, &intro, store);
    }
    if let Some(period) = &of.unsync {
        out.unsync(period, of.start_ns);
    }
    if let Some(act) = &of.host {
        out.host(act, time);
    }
    of.causes.iter().for_each(|of| out.line(3, &of.text));
    if store.is_none() && of.unsync.is_none() && of.host.is_none() && of.causes.is_empty() {
        out.line(3, "nothing that the trace shows");
    }
    if of.together > 1 {
        let changes = plural(of.together, "change");
        out.line(
            3,
            format!("in a row, this one the first: {changes} of this cause"),
        );
    }
}

fn followed(out: &mut Lines, of: &ChangeFacts) {
    out.section(5, "What followed");
    let later = |time: TimeNs| ns(time.0.saturating_sub(of.row.time_ns.0));
    for fate in &of.followed {
        match fate {
            Fate::Stored { by, spte } => {
                let (later, writer) = (later(by.time_ns), words::writer(by));
                out.line(3, format!("{later} later stored again, by {writer}:"));
                out.line(6, value(*spte));
            }
            Fate::Access(by) => {
                let (later, fault) = (later(by.time_ns), words::fault(by));
                out.line(3, format!("{later} later an access to it: {fault}"));
            }
            Fate::TableZapped { seq, time_ns } => {
                let (later, seq) = (later(*time_ns), count(seq.0));
                out.line(3, format!("{later} later its table was zapped (seq {seq})"));
            }
        }
    }
    if of.followed.is_empty() {
        out.line(3, "nothing on this entry that the trace shows");
    }
    if let Some(missing) = of.missing_ns {
        out.line(3, format!("the entry was missing for {}", ns(missing)));
    }
}
