//! The five steps as text for 100 columns.

use events::{
    Cause, Class, PageEvent,
    constants::{ERROR_PFN_MASK, NO_SLOT_PFN},
};

use super::{Explanation, Followed, Store, change_text::phase, class_text};
use crate::faults::FaultStep;
use crate::text::{
    flags,
    units::{count, ns, page_size, since},
};

/// Width of the left table: the guest's.
const LEFT: usize = 48;

/// The five steps.
pub(super) fn text(of: &Explanation) -> String {
    let mut out = head(of);
    let left = guest_table(of);
    let right = shadow_table(of);
    out.push_str(&beside(&left, &right));
    for (level, entry) in &of.stores {
        out.push_str(&format!("   the guest's level {level} entry was stored "));
        out.push_str(&store(entry, of));
    }
    out.push('\n');
    slot(&mut out, of);
    host(&mut out, of);
    written(&mut out, of);
    followed(&mut out, of);
    out.push_str(&format!("\n{}\n", flags::LEGEND));
    out
}

fn head(of: &Explanation) -> String {
    let row = &of.fault;
    let mut out = format!(
        "Fault {} of VM {} on vCPU {}, {} after the start (seq {}){}\n  {}: {}\n",
        of.index,
        row.vm.0,
        row.vcpu.0,
        since(row.time_ns.0, of.start_ns),
        row.seq.0,
        phase(of.phase.as_ref()),
        row.class.name(),
        meaning(row.class),
    );
    out.push_str(&class_text::why_so(of));
    out.push_str(&format!(
        "  gva {}  error code {}",
        row.gva,
        flags::error_code(row.error_code)
    ));
    if let Some(rip) = row.rip {
        out.push_str(&format!("  rip {rip}"));
    }
    let steps: Vec<_> = FaultStep::ALL
        .into_iter()
        .filter_map(|step| Some((step, step.of(row)?)))
        .map(|(step, time)| format!("{} {}", step.label(), ns(u64::from(time))))
        .collect();
    let steps = if steps.is_empty() {
        String::new()
    } else {
        format!(" ({})", steps.join(", "))
    };
    out.push_str(&format!(
        "\n  took {}{steps}\n",
        ns(u64::from(row.total_ns))
    ));
    if of.missing > 0 {
        out.push_str(&format!(
            "  {} records are missing before it: the shadow table below cannot be vouched for\n",
            count(of.missing)
        ));
    }
    out.push('\n');
    out
}

/// What a class means, in one clause.
pub fn meaning(class: Class) -> &'static str {
    match class {
        Class::Guest => "the guest's own tables refuse the access; the guest gets its #PF",
        Class::Shadow => {
            "the guest's tables allow it; only the shadow entry was missing or too weak"
        }
        Class::WriteProtected => {
            "a store to a guest table that KVM shadows; KVM emulates the instruction"
        }
        Class::Unsync => "a store to a guest leaf table; KVM lets it go unsync and reads it later",
        Class::Mmio => "no memslot stands behind the address; KVM emulates the instruction",
        Class::Fast => "only a write bit was missing; KVM set it without mmu_lock",
        Class::Spurious => "the entry was already as wanted",
        Class::Retried => "something changed under it; the guest takes it again",
    }
}

fn guest_table(of: &Explanation) -> Vec<String> {
    let mut lines = vec![
        "1  The guest's tables: GVA -> GPA".to_owned(),
        format!("   cr3 {}", of.fault.cr3),
    ];
    let steps = of.guest_walk();
    if of.is_unpaged {
        lines.push("   none: without paging, gva is gpa".to_owned());
    } else if steps.is_empty() {
        lines.push("   its entries were not recorded".to_owned());
    }
    for step in &steps {
        let table = step
            .table
            .map(|table| table.to_string())
            .unwrap_or_else(|| "?".to_owned());
        lines.push(format!(
            "   {} {table:>10}[{:>3}] {:#018x} {}",
            step.level,
            step.index,
            step.gpte.0,
            flags::gpte(step.gpte)
        ));
    }
    if let Some(last) = steps
        .last()
        .filter(|step| step.level.0 > 1 && step.is_leaf())
    {
        lines.push(format!("   a {} page", page_size(last.pages())));
    }
    match of.gpa() {
        Some(gpa) => lines.push(format!("   gpa {gpa} (gfn {})", gpa.gfn())),
        None if of.fault.class == Class::Guest => {
            lines.push(format!("   {}", refused(of)));
            lines.push("   no GPA: the guest gets its #PF".to_owned());
        }
        None => lines.push("   KVM was done before it used the GPA".to_owned()),
    }
    lines
}

/// Why the guest's tables give no GPA.
fn refused(of: &Explanation) -> String {
    match of.guest_walk().last() {
        None => "refused by the guest's tables".to_owned(),
        Some(step) if !step.gpte.is_present() => format!("not present at level {}", step.level),
        Some(step) if of.fault.error_code.is_write() && !step.gpte.is_writable() => {
            format!("not writable at level {}", step.level)
        }
        Some(step) if of.fault.error_code.is_user() && !step.gpte.is_user() => {
            format!("not for user mode at level {}", step.level)
        }
        Some(_) => "the rights on the way refuse the access".to_owned(),
    }
}

fn shadow_table(of: &Explanation) -> Vec<String> {
    let mut lines = vec![
        "4  KVM's shadow table: GVA -> HPA".to_owned(),
        format!("   root {}", of.fault.root),
    ];
    if of.shadow.steps.is_empty() {
        lines.push("   its root is no shadow page that a record made".to_owned());
    }
    for step in &of.shadow.steps {
        lines.push(format!(
            "   {} {:>11}[{:>3}] {:#018x} {}",
            step.level,
            step.spt.to_string(),
            step.index,
            step.spte.0,
            flags::step(step)
        ));
    }
    match of.shadow.mapping {
        Some(mapping) => {
            let hpa = mapping.pfn.hpa().0 | of.fault.gva.page_offset();
            lines.push(format!("   hpa {hpa:#x} (pfn {})", mapping.pfn));
        }
        None => lines.push("   no HPA: the way ends here".to_owned()),
    }
    lines
}

fn beside(left: &[String], right: &[String]) -> String {
    let mut out = String::new();
    for line in 0..left.len().max(right.len()) {
        let side = |side: &[String]| side.get(line).cloned().unwrap_or_default();
        out.push_str(format!("{:<LEFT$} {}", side(left), side(right)).trim_end());
        out.push('\n');
    }
    out
}

/// Why a step has no numbers.
fn not_reached(of: &Explanation, lacks: &str) -> &'static str {
    match (of.fault.class, lacks) {
        (Class::Guest, "GPA") => "   not reached: there is no GPA\n",
        (Class::Guest, _) => "   not reached: there is no HVA\n",
        _ => "   not recorded: no shadow entry was asked for\n",
    }
}

fn slot(out: &mut String, of: &Explanation) {
    out.push_str("2  The memslot: GPA -> HVA\n");
    let row = &of.fault;
    let Some(gpa) = of.gpa() else {
        out.push_str(not_reached(of, "GPA"));
        return;
    };
    let Some((slot, by_slot)) = of.hva_by_slot() else {
        match (row.slot, row.hva) {
            (Some(slot), Some(hva)) => {
                out.push_str(&format!(
                    "   slot {}: hva {hva}; the slot itself is not in the trace\n",
                    slot.0
                ));
            }
            _ if row.class == Class::Mmio => out.push_str("   no memslot covers this GPA\n"),
            _ => out.push_str("   not recorded for this fault\n"),
        }
        return;
    };
    out.push_str(&format!(
        "   slot {}: gpa {:#x} to {:#x} stands at hva {:#x}\n",
        slot.slot,
        slot.gpa,
        slot.gpa.saturating_add(slot.bytes),
        slot.hva
    ));
    let agrees = match row.hva {
        Some(hva) if hva.0 == by_slot => ", as KVM found it".to_owned(),
        Some(hva) => format!(", but KVM found {hva}"),
        None => String::new(),
    };
    out.push_str(&format!(
        "   {:#x} + ({gpa} - {:#x}) = {by_slot:#x}{agrees}\n",
        slot.hva, slot.gpa
    ));
}

fn host(out: &mut String, of: &Explanation) {
    out.push_str("3  The host's tables: HVA -> HPA\n");
    match (of.fault.hva, of.fault.pfn) {
        (_, Some(pfn)) if pfn.0 == NO_SLOT_PFN => out.push_str("   no frame: no memslot\n"),
        (_, Some(pfn)) if pfn.0 & ERROR_PFN_MASK != 0 => {
            out.push_str(&format!(
                "   the lookup failed: {pfn} is an error, not a frame\n"
            ));
        }
        (Some(hva), Some(pfn)) => out.push_str(&format!(
            "   hva {hva} is in frame {pfn} (hpa {})\n",
            pfn.hpa()
        )),
        (None, Some(pfn)) => out.push_str(&format!("   frame {pfn} (hpa {})\n", pfn.hpa())),
        (_, None) if of.gpa().is_none() => out.push_str(not_reached(of, "HVA")),
        (_, None) => out.push_str("   not recorded for this fault\n"),
    }
}

fn written(out: &mut String, of: &Explanation) {
    out.push_str("4  The shadow entry is written\n");
    let row = &of.fault;
    for change in &of.on_the_way {
        let what = match change.event {
            PageEvent::Born => "made, empty",
            PageEvent::Reused => "found and used again",
            PageEvent::Unsync => "goes unsync",
            PageEvent::Sync => "is brought in line with the guest's table",
            PageEvent::Zapped => "zapped",
        };
        let of_what = if change.direct {
            "direct, from"
        } else {
            "shadows"
        };
        out.push_str(&format!(
            "   level {} table {} ({of_what} gfn {:#x}) {what}\n",
            change.level, change.spt, change.gfn
        ));
    }
    match (row.sptep, row.spte, row.level) {
        (Some(place), Some(spte), Some(level)) => {
            out.push_str(&format!(
                "   level {level}: {place} = {:#x} ({}, {})\n",
                spte.0,
                page_size(level.pages()),
                flags::spte(spte)
            ));
            if let Some(pfn) = row.pfn.filter(|_| spte.is_leaf(level)) {
                let within = level.pages() - 1;
                let agrees = pfn.0 & !within == spte.pfn().0 & !within;
                let agrees = if agrees {
                    "the frame of step 3"
                } else {
                    "NOT the frame of step 3"
                };
                out.push_str(&format!("   its frame {} is {agrees}\n", spte.pfn()));
            }
        }
        _ => out.push_str(&format!("   {}\n", unwritten(row.class))),
    }
    if let Some(emptied) = of.emptied.as_ref().filter(|row| row.cause != Cause::Reread) {
        let before = emptied.old.map(|old| format!(" of {:#x}", old.0));
        out.push_str(&format!(
            "   before, it was emptied{} by {}, {} earlier (seq {})\n",
            before.unwrap_or_default(),
            emptied.cause.name(),
            ns(row.time_ns.0.saturating_sub(emptied.time_ns.0)),
            count(emptied.seq.0),
        ));
    }
    guests_entry(out, of);
    class_text::unsynced(out, of);
}

fn unwritten(class: Class) -> &'static str {
    match class {
        Class::Guest => "none: the guest must first mend its own tables",
        Class::WriteProtected => {
            "none: the store is emulated, and what it makes stale is only dropped"
        }
        Class::Mmio => "none for memory: the instruction is emulated",
        Class::Spurious => "none: it was there",
        Class::Retried => "none: given up",
        _ => "not recorded for this fault",
    }
}

/// The guest's own entry: who changes it, and what KVM does about it.
fn guests_entry(out: &mut String, of: &Explanation) {
    let row = &of.fault;
    let Some(gpa) = of.gpa() else { return };
    for (spt, level, unsync) in &of.shadows_of_frame {
        let entry = (gpa.0 & 0xfff) / 8;
        let state = if *unsync { "unsync" } else { "write-protected" };
        out.push_str(&format!(
            "   gfn {} is itself a guest table: level {level} table {spt} shadows it ({state}), entry {entry}\n",
            gpa.gfn()
        ));
    }
    match &of.store {
        Some(own) => {
            let entry = (own.gpa.0 & 0xfff) / 8;
            out.push_str(&format!("   entry {entry} of it is stored "));
            out.push_str(&store(own, of));
        }
        None if row.class == Class::WriteProtected => out.push_str(
            "   the guest's entry is written by the emulator, the shadow entry of it is cleared\n",
        ),
        None => {}
    }
}

/// An emulated store: when, what, and what it cleared.
fn store(store: &Store, of: &Explanation) -> String {
    let fault = of.fault.time_ns.0;
    let when = match store.time.0.checked_sub(fault) {
        Some(after) => format!("{} after the fault began", ns(after)),
        None => format!(
            "{} before the fault",
            ns(fault.saturating_sub(store.time.0))
        ),
    };
    let before = match store.before {
        Some(before) => format!("{before:#x} -> "),
        None => String::new(),
    };
    let mut out = format!(
        "by the emulator, {when} (seq {}, vCPU {}):\n      gpa {} = {before}{:#x} ({} bytes)\n",
        count(store.seq.0),
        store.vcpu.0,
        store.gpa,
        store.value,
        store.bytes,
    );
    cleared(&mut out, store);
    if store.cleared.is_empty() {
        out.push_str("      no shadow entry was cleared by it that the trace shows\n");
    }
    out
}

/// The shadow entries that a store cleared, as lines.
pub(super) fn cleared(out: &mut String, store: &Store) {
    for entry in &store.cleared {
        let old = entry.old.map_or("?".to_owned(), |old| {
            format!("{:#x} {}", old.0, flags::spte(old))
        });
        out.push_str(&format!(
            "      shadow level {} entry {}: {old} -> {:#x} {}\n",
            entry.level,
            entry.place,
            entry.new.0,
            flags::spte(entry.new)
        ));
    }
}

fn followed(out: &mut String, of: &Explanation) {
    out.push_str("5  What followed\n");
    if of.followed.is_empty() {
        out.push_str("   nothing in the same 2 MiB that the trace shows\n");
    }
    for next in &of.followed {
        let line = match next {
            Followed::Prefetched { place, spte, gva } => {
                let gva = gva.map(|gva| format!(" for gva {gva}")).unwrap_or_default();
                format!(
                    "mapped ahead{gva}: {place} = {:#x} ({})",
                    spte.0,
                    flags::spte(*spte)
                )
            }
            Followed::Fault {
                index,
                class,
                gva,
                after_ns,
            } => {
                format!(
                    "fault {index}, {} later: {} at gva {gva}",
                    ns(*after_ns),
                    class.name()
                )
            }
        };
        out.push_str(&format!("   {line}\n"));
    }
}
