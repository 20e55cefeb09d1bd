//! A fault in five steps.

use events::{
    Cause, Class, Pfn,
    constants::{ERROR_PFN_MASK, NO_SLOT_PFN},
};

use super::record;
use crate::{
    explain::{
        facts::{FaultFacts, Followed, Store, index_of},
        render::Lines,
        words,
    },
    faults::FaultStep,
    text::{
        flags,
        units::{count, ns, page_size, plural, since},
    },
};

/// The story of a fault.
pub fn fault(out: &mut Lines, of: &FaultFacts) {
    head(out, of);
    out.blank();
    let (mut guest, mut shadow) = (out.column(), out.column());
    guest_tables(&mut guest, of);
    shadow_tables(&mut shadow, of);
    out.side_by_side(&guest, &shadow);
    for entry in &of.entries_stored {
        let intro = format!("the guest's level {} entry was stored", entry.level);
        store(out, of, &intro, &entry.store);
    }
    out.blank();
    memslot(out, of);
    host(out, of);
    written(out, of);
    followed(out, of);
    out.blank();
    if let Some(bill) = &of.recycled {
        let text =
            "its frame had more entries than KVM keeps track of: __rmap_add dropped them all";
        out.line(2, text);
        record::came_of(out, bill);
        out.blank();
    }
    out.line(0, flags::LEGEND);
}

fn head(out: &mut Lines, of: &FaultFacts) {
    let row = &of.row;
    out.line(
        0,
        format!(
            "Fault {} of VM {} on vCPU {}, {} after the start (seq {}){}",
            of.index,
            row.vm.0,
            row.vcpu.0,
            since(row.time_ns.0, of.start_ns),
            row.seq.0,
            words::phase(of.phase.as_ref()),
        ),
    );
    let (class, meaning) = (row.class.name(), words::meaning(row.class));
    out.line(2, format!("{class}: {meaning}"));
    out.line(4, &of.cause.text);
    let rip = row.rip.map(|rip| format!("  rip {rip}"));
    let (error, rip) = (flags::error_code(row.error_code), rip.unwrap_or_default());
    let address = words::of_mode(of.mode).address;
    out.line(2, format!("{address} {}  error code {error}{rip}", row.gva));
    let steps = FaultStep::ALL.into_iter();
    let steps: Vec<_> = steps
        .filter_map(|step| Some((step.label(), step.of(row)?)))
        .map(|(label, time)| format!("{label} {}", ns(time)))
        .collect();
    let took = ns(row.total_ns);
    match steps.is_empty() {
        true => out.line(2, format!("took {took}")),
        false => out.line(2, format!("took {took} ({})", steps.join(", "))),
    }
    if let Some(times) = row.switches.filter(|times| *times > 0) {
        let times = plural(times.into(), "time");
        let line = format!("the thread was switched out meanwhile ({times}): other work is in it");
        out.line(4, line);
    }
    if of.missing_records_since_keyframe > 0 {
        let missing = plural(of.missing_records_since_keyframe, "record");
        let line = format!("missing before it: {missing}; the shadow tables below may be wrong");
        out.line(2, line);
    }
}

fn guest_tables(out: &mut Lines, of: &FaultFacts) {
    let names = words::of_mode(of.mode);
    out.section(1, names.guest_tables);
    out.line(3, format!("{} {}", names.guest_root, of.row.cr3));
    if of.is_unpaged {
        out.line(3, "none: without paging, gva is gpa");
    } else if of.guest_walk.is_empty() {
        out.line(3, "its entries were not recorded");
    }
    for step in &of.guest_walk {
        let table = step.table.map_or("?".to_owned(), |table| table.to_string());
        let (level, index, gpte) = (step.level, step.index, step.gpte);
        let rights = flags::gpte(gpte);
        let line = format!("{level} {table:>10}[{index:>3}] {:#018x} {rights}", gpte.0);
        out.line(3, line);
    }
    if let Some(pages) = of.guest_page_pages {
        out.line(3, format!("a {} page", page_size(pages)));
    }
    match (of.row.gpa, &of.guest_refusal) {
        (Some(gpa), _) => out.line(3, format!("gpa {gpa} (gfn {})", gpa.gfn())),
        (None, Some(refusal)) => {
            out.line(3, &refusal.text);
            out.line(3, names.refused);
        }
        (None, None) => out.line(3, "KVM ended the fault before it needed the GPA"),
    }
}

fn shadow_tables(out: &mut Lines, of: &FaultFacts) {
    out.section(4, words::of_mode(of.mode).shadow_tables);
    out.line(3, format!("root {}", of.row.root));
    if of.shadow_walk.is_empty() {
        out.line(3, "its root is no shadow page that a record made");
    }
    for step in &of.shadow_walk {
        let rights = flags::step(step);
        let (level, spt, index) = (step.level, step.spt.to_string(), step.index);
        let line = format!(
            "{level} {spt:>11}[{index:>3}] {:#018x} {rights}",
            step.spte.0
        );
        out.line(3, line);
    }
    match of.hpa {
        Some(hpa) => out.line(3, format!("hpa {hpa} (pfn {})", hpa.pfn())),
        None => out.line(3, "no HPA: the path ends here"),
    }
}

/// A store, and how long before or after the start of the fault it was.
fn store(out: &mut Lines, of: &FaultFacts, intro: &str, store: &Store) {
    let (fault, time) = (of.row.time_ns.0, store.time_ns.0);
    let when = match time.checked_sub(fault) {
        Some(after) => format!("{} after the fault began", ns(after)),
        None => format!("{} before the fault", ns(fault.saturating_sub(time))),
    };
    out.store(3, &format!("{intro} by the emulator, {when}"), store);
    if store.cleared.is_empty() {
        out.line(6, "the trace shows no shadow entry that it cleared");
    }
}

/// Why a step has no numbers, if the guest's tables have no GPA.
fn not_reached(of: &FaultFacts, lacks: &str) -> String {
    match of.row.class {
        Class::Guest => format!("not reached: there is no {lacks}"),
        _ => "not recorded: KVM needed no shadow entry".to_owned(),
    }
}

fn memslot(out: &mut Lines, of: &FaultFacts) {
    out.section(2, "The memslot: GPA -> HVA");
    let row = &of.row;
    let Some(gpa) = row.gpa else {
        return out.line(3, not_reached(of, "GPA"));
    };
    let Some(slot) = of.memslot else {
        return match (row.slot, row.hva) {
            (Some(slot), Some(hva)) => {
                let why = match of.memslots_changed {
                    true => "memslots changed since the last look at them",
                    false => "the slot itself is not in the trace",
                };
                out.line(3, format!("slot {}: hva {hva}; {why}", slot.0));
            }
            _ if row.class == Class::Mmio => out.line(3, "no memslot covers this GPA"),
            _ => out.line(3, "not recorded for this fault"),
        };
    };
    let (from, to) = (slot.gpa, slot.gpa.0.saturating_add(slot.bytes));
    let (number, hva) = (slot.slot, slot.hva);
    out.line(
        3,
        format!("slot {number}: gpa {from} to {to:#x} is at hva {hva}"),
    );
    let agrees = match row.hva {
        Some(hva) if hva == slot.hva_by_slot => ", as KVM found it".to_owned(),
        Some(hva) => format!(", but KVM found {hva}"),
        None if slot.is_computed => "; computed from the memslot, not recorded".to_owned(),
        None => String::new(),
    };
    let by_slot = slot.hva_by_slot;
    out.line(3, format!("{hva} + ({gpa} - {from}) = {by_slot}{agrees}"));
}

fn host(out: &mut Lines, of: &FaultFacts) {
    out.section(3, "The host's tables: HVA -> HPA");
    let is_error = |pfn: Pfn| pfn.0 & ERROR_PFN_MASK != 0;
    let line = match (of.row.hva, of.row.pfn) {
        (_, Some(pfn)) if pfn.0 == NO_SLOT_PFN => "no frame: no memslot".to_owned(),
        (_, Some(pfn)) if is_error(pfn) => {
            format!("the lookup failed: {pfn} is an error, not a frame")
        }
        (Some(hva), Some(pfn)) => format!("hva {hva} is in frame {pfn} (hpa {})", pfn.hpa()),
        (None, Some(pfn)) => format!("frame {pfn} (hpa {})", pfn.hpa()),
        (_, None) if of.row.gpa.is_none() => not_reached(of, "HVA"),
        (_, None) => match of.pfn_by_shadow {
            Some(pfn) => format!(
                "frame {pfn} (hpa {}); computed from the shadow entry, not recorded",
                pfn.hpa()
            ),
            None => "not recorded for this fault".to_owned(),
        },
    };
    out.line(3, line);
}

fn written(out: &mut Lines, of: &FaultFacts) {
    out.section(4, "The shadow entry is written");
    let row = &of.row;
    of.pages.iter().for_each(|page| out.page(page));
    match (row.sptep, row.spte, row.level) {
        (Some(place), Some(spte), Some(level)) => {
            let (size, rights) = (page_size(level.pages()), flags::spte(spte));
            out.line(
                3,
                format!("level {level}: {place} = {:#x} ({size}, {rights})", spte.0),
            );
            let frame = spte.pfn();
            match of.leaf_maps_frame {
                Some(true) => out.line(3, format!("its frame {frame} is the frame of step 3")),
                Some(false) => {
                    out.line(3, format!("its frame {frame} is NOT the frame of step 3"));
                }
                None => {}
            }
        }
        _ => out.line(3, words::unwritten(row.class)),
    }
    let emptied = of.emptied.as_ref();
    if let Some(emptied) = emptied.filter(|row| row.cause != Cause::Reread) {
        let age = ns(row.time_ns.0.saturating_sub(emptied.time_ns.0));
        out.line(3, format!("it was emptied {age} before:"));
        out.changed(6, emptied);
    }
    if let Some(gpa) = row.gpa {
        for table in &of.shadows_of_frame {
            out.shadow_of(table, gpa, of.gpte_bytes);
        }
        own_store(out, of);
    }
    of.zapped_after.iter().for_each(|page| out.page(page));
    unsync(out, of);
}

fn own_store(out: &mut Lines, of: &FaultFacts) {
    match &of.store {
        Some(own) => {
            let (index, gfn) = (index_of(own.gpa, of.gpte_bytes), own.gpa.gfn());
            store(
                out,
                of,
                &format!("entry {index} of gfn {gfn} is stored"),
                own,
            );
        }
        None if of.row.class == Class::WriteProtected => {
            out.line(
                3,
                "the emulator stores the guest's entry, and KVM clears its shadow entry",
            );
        }
        None => {}
    }
}

/// The pages that the fault made unsync.
fn unsync(out: &mut Lines, of: &FaultFacts) {
    for period in &of.unsync {
        out.unsync(period, of.start_ns);
        if let Some(gpa) = of.row.gpa.filter(|gpa| gpa.gfn() == period.gfn) {
            let index = index_of(gpa, of.gpte_bytes);
            let line = format!("the fault's store is to its entry {index}; its value is not seen");
            out.line(6, line);
        }
    }
    if of.row.class == Class::Unsync && of.unsync.is_empty() {
        out.line(
            3,
            "the event of the page that became unsync is not in the trace",
        );
    }
}

fn followed(out: &mut Lines, of: &FaultFacts) {
    out.section(5, "What followed");
    if of.followed.is_empty() {
        out.line(3, "nothing in the same 2 MiB that the trace shows");
    }
    for next in &of.followed {
        out.line(
            3,
            match next {
                Followed::Prefetched { sptep, spte, gva } => {
                    let gva = gva.map(|gva| format!(" for gva {gva}"));
                    let (gva, rights) = (gva.unwrap_or_default(), flags::spte(*spte));
                    format!("mapped ahead{gva}: {sptep} = {:#x} ({rights})", spte.0)
                }
                Followed::Fault {
                    fault,
                    after_ns,
                    again,
                    last_after_ns,
                } => {
                    let (index, after) = (fault.index, ns(*after_ns));
                    let (class, gva) = (fault.class.name(), fault.gva);
                    let again = match again {
                        0 => String::new(),
                        _ => format!(
                            ", and {} more times in a row, the last {} later",
                            count(*again),
                            ns(*last_after_ns),
                        ),
                    };
                    format!("fault {index}, {after} later: {class} at gva {gva}{again}")
                }
            },
        );
    }
}
