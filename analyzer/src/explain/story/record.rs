//! A store, an act of the host, a root, a mark, a page of a keyframe.

use events::{Act, HostEvent};
use trace::{ActRow, HostRow, MarkRow};

use crate::{
    explain::{
        facts::{GuestEntry, Kind, RecordFacts, RootFacts, ShadowOfStore, Store},
        render::{Lines, stored, value},
        words::{self, kernel},
    },
    refaults::ActBill,
    text::{
        plain,
        units::{count, ns, plural, since},
    },
};

/// The story of a record.
pub fn record(out: &mut Lines, of: &RecordFacts) {
    let (seq, vm, time) = (of.seq.0, of.vm.0, since(of.time_ns.0, of.start_ns));
    let phase = words::phase(of.phase.as_ref());
    out.line(
        0,
        format!("Record {seq} of VM {vm}, {time} after the start{phase}"),
    );
    match &of.record {
        Kind::Store {
            store,
            shadow_pages,
            guest_entry,
            stores_since_use,
        } => {
            let (vcpu, stored) = (store.vcpu.0, stored(store));
            out.line(
                2,
                format!("a store of vCPU {vcpu} that KVM emulated: {stored}"),
            );
            out.blank();
            which_table(out, store, shadow_pages, guest_entry.as_ref());
            if !shadow_pages.is_empty() {
                let line = "stores to it since KVM last used it as a table";
                out.line(3, format!("{line}: {stores_since_use}"));
            }
            effect(out, of, 2);
        }
        Kind::Host(row) => {
            host(out, row);
            effect(out, of, 1);
        }
        Kind::Root(root) => new_root(out, root),
        Kind::Mark(row) => mark(out, row),
        Kind::Act(row) => act(out, row),
        Kind::KeyframePage {
            keyframe,
            spt,
            gfn,
            level,
            entries,
            ..
        } => {
            let entries = plural(*entries as u64, "entry");
            let page = format!("level {level} table {spt}, gfn {gfn}, {entries} not empty");
            let line = format!("a page of keyframe {keyframe}, as the kernel had it: {page}");
            out.line(2, line);
        }
    }
}

fn which_table(
    out: &mut Lines,
    store: &Store,
    shadows: &[ShadowOfStore],
    entry: Option<&GuestEntry>,
) {
    out.section(1, "Which table");
    if shadows.is_empty() {
        out.line(
            3,
            "none that KVM shadows: it was emulated for another reason, and changes no entry",
        );
    }
    for shadow in shadows {
        out.shadow_of(&shadow.table, store.gpa, shadow.gpte_bytes);
        out.line(6, format!("its shadow entry: {}", value(shadow.spte)));
        out.translations(6, &shadow.translations);
    }
    if let Some(entry) = entry {
        out.guest_entry(entry, store.time_ns);
    }
}

/// What it changed, and what followed, from a section on.
fn effect(out: &mut Lines, of: &RecordFacts, section: u8) {
    out.section(section, "What it changed");
    of.changed.iter().for_each(|row| out.changed(3, row));
    out.more(3, of.changed_total, of.changed.len());
    of.zapped.iter().for_each(|page| out.page(page));
    match &of.bill {
        Some(bill) => out.line(3, removed(bill)),
        None if of.changed_total == 0 && of.zapped.is_empty() => {
            out.line(3, "no shadow entry that the trace shows");
        }
        None => {}
    }
    if let Kind::Host(row) = &of.record
        && leaves_tables(row.event)
    {
        out.line(
            3,
            "the tables of the frames stay; only leaves go or lose rights",
        );
    }
    out.section(section + 1, "What followed");
    if let Some(refilled) = &of.refilled {
        let (after, by) = (ns(refilled.after_ns), words::writer(&refilled.by));
        out.line(
            3,
            format!("{after} later the first of these entries was mapped again, by {by}"),
        );
    }
    match &of.bill {
        Some(bill) if bill.refaults > 0 => out.line(3, refaults(bill)),
        Some(_) => out.line(3, "no fault that the trace shows came of it"),
        None if of.refilled.is_some() => {}
        None if !of.emptied && of.zapped.is_empty() => {
            out.line(3, "it emptied no entry, so none had to be mapped again");
        }
        None => out.line(3, "the trace shows none of these entries mapped again"),
    }
}

/// Whether an act of the host works on leaves alone, by the frames' reverse maps.
fn leaves_tables(event: HostEvent) -> bool {
    match event {
        HostEvent::Unmap
        | HostEvent::DirtyStart
        | HostEvent::DirtyClear
        | HostEvent::DirtyStop
        | HostEvent::Reread
        | HostEvent::Settled => true,
        HostEvent::FlushSlot | HostEvent::ZapRange => false,
    }
}

/// What an act with the number of a page's or an entry's record came to.
pub(super) fn came_of(out: &mut Lines, bill: &ActBill) {
    let (cause, what, seq) = (bill.cause.name(), &bill.what, count(bill.seq.0));
    out.line(2, format!("the act of seq {seq} ({cause}: {what})"));
    out.line(4, removed(bill));
    match bill.refaults {
        0 => out.line(4, "no fault that the trace shows came of it"),
        _ => out.line(4, refaults(bill)),
    }
}

fn removed(bill: &ActBill) -> String {
    let lost = [
        (bill.entries_removed, "entry", "removed"),
        (bill.entries_weakened, "leaf entry", "with less rights"),
        (bill.pages_zapped, "shadow page", "zapped"),
    ];
    let lost = lost.iter().filter(|(number, ..)| *number > 0);
    let lost = lost.map(|(number, what, how)| format!("{} {how}", plural((*number).into(), what)));
    format!("in all: {}", Vec::from_iter(lost).join(", "))
}

fn refaults(bill: &ActBill) -> String {
    let faults = plural(bill.refaults.into(), "fault");
    let worst = bill.worst.map_or_else(String::new, |worst| {
        format!(", the longest {} (seq {})", ns(worst.ns), worst.seq.0)
    });
    let missing = match bill.over_gap {
        true => "; RECORDS MISSING between: another act may have caused them",
        false => "",
    };
    format!(
        "{faults} came of it and took {}{worst}{missing}",
        ns(bill.total_ns)
    )
}

fn host(out: &mut Lines, row: &HostRow) {
    let (name, act) = (row.event.name(), kernel::act(row.event));
    out.line(2, format!("{name}: {act}"));
    let (frames, thread) = (words::frames(row), words::thread(row.vcpu));
    out.line(2, format!("{frames}, on {thread}"));
    out.blank();
}

fn new_root(out: &mut Lines, of: &RootFacts) {
    let row = &of.row;
    let (vcpu, cr3, root, level) = (row.vcpu.0, row.cr3, row.root, row.level);
    let now = format!("cr3 {cr3}, shadow root {root} (level {level})");
    match row.keyframe {
        Some(number) => out.line(2, format!("keyframe {number}: vCPU {vcpu} is on {now}")),
        None => {
            out.line(
                2,
                format!("vCPU {vcpu} was first seen on another root: {now}"),
            );
            out.line(2, &of.cause.text);
        }
    }
    out.line(
        2,
        match of.entries {
            None => "the root is no shadow page that a record made".to_owned(),
            Some(0) => "the root is empty: faults have yet to make all tables below it".to_owned(),
            Some(entries) => {
                let entries = plural(u64::from(entries), "entry");
                format!(
                    "the root existed already, with {entries}: KVM uses the tables below it again"
                )
            }
        },
    );
}

fn act(out: &mut Lines, row: &ActRow) {
    let (name, took, thread) = (row.act.name(), ns(row.total_ns), words::thread(row.vcpu));
    let what = crate::faults::meaning_of_act(row.act);
    out.line(2, format!("{name}: {what}"));
    let zapped = plural(row.zapped.into(), "page");
    let synced = match (row.act, row.synced) {
        // As the kernel has it: the page is brought in line each time that it is looked up.
        (Act::Sync, 0) => {
            "the page that was looked up is brought in line, and stays unsync".to_owned()
        }
        (_, pages) => format!("{} synced", plural(pages.into(), "page")),
    };
    out.line(
        2,
        format!("took {took} on {thread}; {synced}, {zapped} zapped"),
    );
}

fn mark(out: &mut Lines, row: &MarkRow) {
    let thread = words::thread(row.vcpu);
    let what = match row.keyframe {
        Some(number) => format!("keyframe {number} is complete"),
        None => "a mark of the guest".to_owned(),
    };
    let line = match row.pages {
        Some(pages) => format!("{} of the kernel", plural(u64::from(pages), "page")),
        None => format!("phase {} begins", plain(&row.name)),
    };
    out.line(2, format!("{what} on {thread}: {line}"));
}
