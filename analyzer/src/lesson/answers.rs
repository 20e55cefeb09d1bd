//! What KVM did in each step, for a reader who knows the lecture only.

use std::fmt::Write as _;

use events::{Level, PageEvent};
use trace::Host;

use super::scan::Later;
use crate::{
    explain::FaultFacts,
    text::{
        flags,
        units::{count, ns, plural},
    },
};

const GUEST_LETTERS: &str = "r present, w writable, x executable, u user, A accessed, D dirty";

fn lines(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    })
}

pub(super) fn first(of: &FaultFacts, host: &Host, later: &Later) -> String {
    let gva = of.row.gva;
    let indexes = of.guest_walk.iter();
    let indexes: Vec<_> = indexes
        .map(|step| format!("level {}: {}", step.level, step.index))
        .collect();
    let mut said = vec![
        format!("Entries that GVA {gva} selects: {}.", indexes.join(", ")),
        format!(
            "Its low 12 bits, {:#x}, are the offset in the page.",
            gva.0 & 0xfff
        ),
    ];
    said.extend(of.guest_walk.iter().map(|step| {
        let (frame, bits) = (step.gpte.gpa().gfn(), flags::gpte(step.gpte));
        format!(
            "level {}: {:#x} = frame {frame}, {bits}",
            step.level, step.gpte.0
        )
    }));
    said.push(format!("(frame: bits 12 to 51; {GUEST_LETTERS})"));
    if let Some(gpa) = of.row.gpa {
        said.push(format!(
            "The frame of the last entry and the offset give GPA {gpa}."
        ));
    }
    said.push(String::new());
    said.push(leaf_store(of));
    said.push(
        "Not every store faults. KVM write-protects a guest table when it begins to shadow it. \
         Later it may let the guest write a table of level 1 freely, and compare it when the guest \
         flushes its TLB (such a table is called unsync)."
            .to_owned(),
    );
    said.push(format!(
        "Page faults of stores to a write-protected table in this recording: {}.",
        count(later.write_protected)
    ));
    if host.hypervisor == "kvm_pvm" {
        said.push(
            "KVM-PVM carries out the instructions of this guest's kernel itself (it emulates them). \
             So KVM sees such a store without a page fault."
                .to_owned(),
        );
    }
    lines(said)
}

/// Whether the store that makes the entry was seen; if not, why.
fn leaf_store(of: &FaultFacts) -> String {
    let mut stored = of.entries_stored.iter();
    if let Some(stored) = stored.find(|stored| stored.level == Level(1)) {
        let store = &stored.store;
        let before = store.before;
        let before = before.map_or_else(|| "not seen".to_owned(), |value| format!("{value:#x}"));
        return format!(
            "KVM emulated the guest's store to the entry of level 1, {} before the fault (record \
             {}). It was {before}, and became {:#x}.",
            ns(of.row.time_ns.0.saturating_sub(store.time_ns.0)),
            count(store.seq.0),
            store.value
        );
    }
    let table = of.guest_walk.last().and_then(|step| step.table);
    let is_new = of.pages.iter().any(|page| {
        page.row.event == PageEvent::Born
            && page.row.level == Level(1)
            && Some(page.row.gfn) == table.map(|table| table.gfn())
    });
    let why = match is_new {
        true => {
            "KVM made its shadow of that table only in this fault (step 4). A table without a \
             shadow is not write-protected."
        }
        false => "Why is not seen.",
    };
    let lowest = of.entries_stored.iter().min_by_key(|stored| stored.level);
    let marked = lowest.map_or_else(String::new, |stored| {
        format!(
            " The marked entry, of level {}, is the lowest whose store KVM saw (record {}).",
            stored.level,
            count(stored.store.seq.0)
        )
    });
    format!("The guest's store to the entry of level 1 is not seen. {why}{marked}")
}

pub(super) fn second(of: &FaultFacts) -> String {
    let hva = of.row.hva;
    let (Some(slot), Some(gpa)) = (&of.memslot, of.row.gpa) else {
        let hva = hva.map_or_else(|| "not seen".to_owned(), |hva| hva.to_string());
        return format!("The slot is not seen. HVA: {hva}.\n");
    };
    let end = slot.gpa.0.saturating_add(slot.bytes);
    let same = match hva {
        Some(hva) if hva == slot.hva_by_slot => "KVM recorded the same HVA.".to_owned(),
        Some(hva) => format!("KVM recorded another HVA: {hva}."),
        None if slot.is_computed => {
            "Computed from the memslot that holds the GPA: KVM ended the fault before it looked."
                .to_owned()
        }
        None => "KVM's own HVA is not seen.".to_owned(),
    };
    lines([
        "It needs where the slot starts, as GPA and as HVA, and its size.".to_owned(),
        format!(
            "Slot {}: GPA {} to {end:#x} starts at HVA {}.",
            slot.slot, slot.gpa, slot.hva
        ),
        format!(
            "{} + ({gpa} - {}) = {}",
            slot.hva, slot.gpa, slot.hva_by_slot
        ),
        same,
    ])
}

pub(super) fn third(of: &FaultFacts) -> String {
    let row = &of.row;
    let frame = match (of.hva(), of.hpa) {
        (Some(hva), Some(hpa)) => format!("HVA {hva} is in the host's frame at HPA {hpa}."),
        _ => "The host's frame is not seen.".to_owned(),
    };
    let parts = [
        ("exit from the guest", row.exit_ns),
        ("walk of the guest's tables", row.walk_ns),
        ("slot and host's frame", row.pfn_ns),
        ("shadow tables above the entry", row.tables_ns),
        (
            "slot, host's frame, and shadow tables above the entry (no moment between is seen)",
            row.pfn_tables_ns,
        ),
        ("writing the entry", row.write_ns),
    ];
    let seen: Vec<_> = parts
        .into_iter()
        .filter_map(|(what, took)| Some((what, took?)))
        .collect();
    let most = seen.iter().max_by_key(|(_, took)| *took);
    let most = most.map(|(what, _)| format!("Most of it: {what}."));
    let seen = seen
        .iter()
        .map(|(what, took)| format!("  {}: {what}", ns(*took)));
    let took = format!("The fault took {}:", ns(row.total_ns));
    lines([frame, took].into_iter().chain(seen).chain(most))
}

pub(super) fn fourth(of: &FaultFacts, later: &Later) -> String {
    let made = of.pages.iter();
    let made = made.filter(|page| page.row.event == PageEvent::Born);
    let mut said: Vec<_> = made
        .map(|page| {
            let (level, spt, gfn) = (page.row.level, page.row.spt, page.row.gfn);
            format!(
                "Made the shadow table of level {level} at {spt}, for the guest's at {}.",
                gfn.gpa(0)
            )
        })
        .collect();
    if said.is_empty() {
        said.push("No table had to be made.".to_owned());
    }
    match of.row.spte {
        Some(spte) => said.push(format!(
            "Wrote {:#x} = frame {} and bits {:#x}: {}",
            spte.0,
            spte.pfn(),
            spte.0 & 0xfff,
            flags::spte(spte)
        )),
        None => said.push("Wrote no entry.".to_owned()),
    }
    said.push(format!("({})", flags::LEGEND));
    said.push(
        "(H: the host lets the VMM write the frame. M: KVM may give W back without a new lookup.)"
            .to_owned(),
    );
    said.push(String::new());
    said.push(
        "The guest's own entries: the processor walks the shadow table only. So KVM sets A, and D \
         for a store, in the guest's entries itself, in its walk (step 1). Frames stay as the \
         guest stored them."
            .to_owned(),
    );
    for step in &of.guest_walk {
        let stored = of.entries_stored.iter();
        let stored = stored.filter(|stored| stored.level == step.level);
        let stored = stored.map(|stored| format!("stored as {:#x}, ", stored.store.value));
        let after = match later.read(step.level) {
            Some((fault, read)) => format!("fault {} read {:#x}", count(fault), read.0),
            None => "what it was afterwards is not seen: no later fault read it".to_owned(),
        };
        said.push(format!(
            "level {}: {}this fault read {:#x}; {after}",
            step.level,
            stored.collect::<String>(),
            step.gpte.0
        ));
    }
    lines(said)
}

pub(super) fn fifth(of: &FaultFacts, later: &Later) -> String {
    let next = (of.row.gva.0 & !0xfff).saturating_add(0x1000);
    if later.next.is_empty() {
        return format!("Not seen: this recording has no fault on the next page, {next:#x}.\n");
    }
    let faults = u64::try_from(later.next.len()).unwrap_or(u64::MAX);
    let mut said = vec![format!(
        "The next page, {next:#x}: {}",
        plural(faults, "fault")
    )];
    said.extend(later.next.iter().map(|(fault, class)| {
        let what = match class {
            events::Class::Guest => {
                "the guest's own table has no entry: KVM passes the fault on, and the guest's \
                 kernel maps the page"
            }
            events::Class::Shadow => {
                "the guest's entry is there, the shadow entry is missing: KVM writes it"
            }
            other => other.name(),
        };
        format!("  fault {}: {what}", count(*fault))
    }));
    if !later.is_mapped {
        said.push("The recording has no fault that stored its shadow entry.".to_owned());
    }
    let numbers = std::iter::once(of.index).chain(later.next.iter().map(|(fault, _)| *fault));
    let numbers: Vec<_> = numbers.collect();
    let has_others = numbers.windows(2).any(|pair| pair[1] > pair[0] + 1);
    let others = if has_others {
        "; others came between"
    } else {
        ""
    };
    said.push(format!(
        "Faults are numbered over the whole recording{others}."
    ));
    lines(said)
}
