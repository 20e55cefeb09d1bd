//! What KVM did in each step, for a reader who knows the lecture only.

use events::{Class, Gpa, Level, PageEvent};
use trace::Host;

use super::{
    rows::{Cell, Mark, Row},
    scan::{Around, NextPage, walked},
};
use crate::{
    explain::{FaultFacts, Store},
    faults::{GuestStep, guest_walk},
    text::{
        flags,
        units::{count, ns, plural},
    },
};

/// The guest's store to the entry that maps the page, if a record has it.
pub(super) fn leaf_store(of: &FaultFacts) -> Option<&Store> {
    let mut stored = of.entries_stored.iter();
    let stored = stored.find(|stored| stored.level == Level(1));
    stored.map(|stored| &stored.store)
}

/// What an entry without P is: a guest may keep there where it swapped a page to.
pub(super) fn absent(step: &GuestStep) -> &'static str {
    match step.gpte.0 {
        0 => "empty",
        _ => "not present",
    }
}

/// The guest's lowest table on the way of the address.
pub(super) fn lowest_table(of: &FaultFacts) -> Option<Gpa> {
    of.guest_walk.last().and_then(|step| step.table)
}

/// KVM made its shadow of the guest's lowest table in this fault.
pub(super) fn is_new(of: &FaultFacts) -> bool {
    let table = lowest_table(of);
    of.pages.iter().any(|page| {
        page.row.event == PageEvent::Born
            && page.row.level == Level(1)
            && Some(page.row.gfn) == table.map(|table| table.gfn())
    })
}

pub(super) fn zeroth(of: &FaultFacts, around: &Around) -> Vec<String> {
    let row = &of.row;
    let mut said = Vec::new();
    if let Some(passed) = &around.passed_on {
        let walk = guest_walk(&passed.row);
        let missing = walk.iter().find(|step| !step.gpte.is_present());
        let why = match missing {
            Some(step) => format!(
                "its own entry of level {} is {}, and only the guest can choose a GPA",
                step.level,
                absent(step)
            ),
            None => "its own table does not allow the access".to_owned(),
        };
        said.push(format!(
            "The guest's kernel (fault {}): {why}. The fault is an exit all the same: KVM passes \
             it on to the guest's kernel, which repairs its table (step 1).",
            count(passed.index)
        ));
        said.push(format!(
            "{} later the access comes again, and faults again (fault {}): the guest's entry is \
             there now, the shadow entry is not. That is KVM's work alone (steps 2 to 4).",
            ns(row.time_ns.0.saturating_sub(passed.row.time_ns.0)),
            count(of.index)
        ));
    } else {
        said.push(match row.class {
            Class::Shadow => format!(
                "KVM alone (fault {}): the guest's own table maps the page, only the shadow entry \
                 is missing. The guest's kernel does not run for it.",
                count(of.index)
            ),
            Class::WriteProtected => format!(
                "KVM alone (fault {}): the store is to a guest table that KVM write-protected.",
                count(of.index)
            ),
            class => format!("Fault {}, of the class {}.", count(of.index), class.name()),
        });
        if let Some(store) = of.entries_stored.iter().min_by_key(|stored| stored.level) {
            said.push(format!(
                "{} earlier KVM saw the guest store its entry of level {} (record {}): step 1 came \
                 first.",
                ns(row.time_ns.0.saturating_sub(store.store.time_ns.0)),
                store.level,
                count(store.store.seq.0)
            ));
        }
    }
    let rip = row.rip;
    let rip = rip.map_or_else(String::new, |rip| format!("; the instruction is at {rip}"));
    said.push(format!(
        "What the processor reports: the address {}, and the error code {}{rip}.",
        row.gva,
        flags::error_code(row.error_code)
    ));
    said
}

pub(super) fn first(of: &FaultFacts, host: &Host, around: &Around) -> Vec<String> {
    let mut said = vec![match leaf_store(of) {
        Some(store) => seen(store, host, around),
        None => unseen(of),
    }];
    said.push(
        "KVM write-protects a guest table from when it shadows it; one of level 1 it may later let \
         the guest write freely (unsync)."
            .to_owned(),
    );
    let unfaulted = match is_emulating(host) {
        true => {
            " KVM-PVM carries out the guest kernel's instructions: it sees these stores without a \
             fault."
        }
        false => "",
    };
    said.push(format!(
        "Stores that faulted so in this recording: {}.{unfaulted}",
        count(around.write_protected)
    ));
    let gva = of.row.gva;
    let indexes = of.guest_walk.iter().map(|step| step.index.to_string());
    let mut from = format!(
        "GVA {gva} selects entries {}, from the highest level down (9 bits each); its low 12 \
         bits are the offset {:#x}.",
        indexes.collect::<Vec<_>>().join(", "),
        gva.0 & 0xfff
    );
    if let (Some(step), Some(gpa)) = (of.guest_walk.last(), of.row.gpa) {
        from += &format!(
            " The last holds {:#x}: frame {}, bits {}. Frame and offset give GPA {gpa}.",
            step.gpte.0,
            step.gpte.gpa().gfn(),
            flags::gpte_values(step.gpte)
        );
    }
    said.push(from);
    said
}

/// This KVM carries out instructions of the guest's kernel without a fault of theirs.
fn is_emulating(host: &Host) -> bool {
    host.hypervisor == "kvm_pvm"
}

/// The store of the entry that maps the page.
fn seen(store: &Store, host: &Host, around: &Around) -> String {
    let before = store.before;
    let before = before.map_or_else(|| "not seen".to_owned(), |value| format!("{value:#x}"));
    let stored = format!(
        "(record {}: it was {before}, and became {:#x})",
        count(store.seq.0),
        store.value
    );
    match around.store_fault {
        Some(fault) => format!(
            "Yes, as the lecture says: fault {} is the store to the write-protected table. KVM \
             carried it out {stored}.",
            count(fault)
        ),
        None if is_emulating(host) => {
            format!("It had no page fault of its own. KVM saw it all the same {stored}.")
        }
        None => format!("KVM carried out the store {stored}. A fault for it is not seen."),
    }
}

/// Why the store of the entry that maps the page is not seen.
fn unseen(of: &FaultFacts) -> String {
    let table = lowest_table(of);
    let table = table.map_or_else(|| "?".to_owned(), |table| table.to_string());
    if of.row.class == Class::WriteProtected {
        return match &of.store {
            Some(store) => format!(
                "Yes, this is that fault. KVM carried out the store: {} became {:#x} (record {}).",
                store.gpa,
                store.value,
                count(store.seq.0)
            ),
            None => "Yes, this is that fault. What was stored is not seen.".to_owned(),
        };
    }
    match is_new(of) {
        true => format!(
            "Not as the lecture says: KVM made its shadow of the guest's table {table} only in \
             this fault (step 4), and a table without a shadow is not write-protected. KVM saw no \
             store to this entry."
        ),
        false => "KVM saw no store to this entry. Why is not seen.".to_owned(),
    }
}

pub(super) fn second(of: &FaultFacts) -> Vec<String> {
    let hva = of.row.hva;
    let (Some(slot), Some(gpa)) = (&of.memslot, of.row.gpa) else {
        let hva = hva.map_or_else(|| "not seen".to_owned(), |hva| hva.to_string());
        return vec![format!("The slot is not seen. HVA: {hva}.")];
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
    vec![
        format!(
            "Where it starts, as GPA and as HVA, and its size: slot {} is GPA {} to {end:#x}, from \
             HVA {} on.",
            slot.slot, slot.gpa, slot.hva
        ),
        format!(
            "{} + ({gpa} - {}) = {}. {same}",
            slot.hva, slot.gpa, slot.hva_by_slot
        ),
    ]
}

pub(super) fn third(of: &FaultFacts) -> Vec<String> {
    let row = &of.row;
    let frame = match (of.hva(), of.hpa) {
        (Some(hva), Some(hpa)) => format!("HVA {hva} is at HPA {hpa}."),
        _ => "The host's frame is not seen.".to_owned(),
    };
    let computed = of.pfn_by_shadow.map(|_| {
        "Computed from the shadow entry that maps it: KVM ended the fault before it looked."
            .to_owned()
    });
    let parts = [
        ("the exit", row.exit_ns),
        ("KVM's walk of the guest's table", row.walk_ns),
        ("memslot and host's frame (steps 2 and 3)", row.pfn_ns),
        ("shadow tables above the entry (step 4)", row.tables_ns),
        (
            "memslot, host's frame, shadow tables above the entry (steps 2 to 4: no moment \
             between them is seen)",
            row.pfn_tables_ns,
        ),
        ("writing the entry (step 4)", row.write_ns),
        ("carrying out the store", row.emulate_ns),
        ("back into the guest", row.entry_ns),
    ];
    let seen: Vec<_> = parts
        .into_iter()
        .filter_map(|(what, took)| Some((what, took?)))
        .collect();
    let most = seen.iter().max_by_key(|(_, took)| *took);
    let others = seen.iter().filter(|part| Some(*part) != most);
    let most = most.map(|(what, took)| format!("Most, {}: {what}.", ns(*took)));
    let others: Vec<_> = others
        .map(|(what, took)| format!("{}: {what}", ns(*took)))
        .collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(" The others: {}.", others.join("; ")),
    };
    let took = format!("The fault took {}.", ns(row.total_ns));
    let times = most.map_or_else(|| took.clone(), |most| format!("{took} {most}{others}"));
    std::iter::once(frame)
        .chain(computed)
        .chain([times])
        .collect()
}

pub(super) fn fourth(of: &FaultFacts, around: &Around, shadow: &[Row]) -> Vec<String> {
    let mut said: Vec<_> = shadow.iter().filter_map(|row| written(of, row)).collect();
    if said.is_empty() {
        said.push("No shadow entry changed.".to_owned());
    }
    let levels = |rows: &mut dyn Iterator<Item = &Row>| {
        let levels: Vec<_> = rows.map(|row| row.level.to_string()).collect();
        levels.join(", ")
    };
    let is_some = shadow.iter().any(Row::is_changed);
    let same = levels(&mut shadow.iter().filter(|row| !row.is_changed()));
    if is_some && !same.is_empty() {
        said.push(format!("Not changed, since it was there: level {same}."));
    }
    said.extend(bits_set(of, around));
    said
}

/// What became of a shadow entry that the step changed.
fn written(of: &FaultFacts, row: &Row) -> Option<String> {
    let step = of
        .shadow_walk
        .iter()
        .find(|step| step.level.0 == row.level)?;
    let Cell::Entry { place, .. } = &row.cell else {
        return None;
    };
    let holds = match step.spte.is_leaf(step.level) {
        true => format!(
            "maps frame {} of the host: {}",
            step.spte.pfn(),
            flags::step(step)
        ),
        false => format!("points to the table {}", step.spte.child()),
    };
    let born = of
        .pages
        .iter()
        .find(|page| page.row.event == PageEvent::Born && page.row.spt == step.spt);
    let of_guest = |gfn: events::Gfn| match born.is_some_and(|page| page.row.direct != 0) {
        true => String::new(),
        false => format!(" for the guest's {}", gfn.gpa(0)),
    };
    Some(match (row.mark, born) {
        (Mark::None, _) => return None,
        (Mark::Table, Some(page)) => format!(
            "Level {}: KVM made the table{}. Its entry {place} {holds}.",
            row.level,
            of_guest(page.row.gfn)
        ),
        (Mark::Table, None) => format!(
            "Level {}: KVM used a table that it had. Its entry {place} {holds}.",
            row.level
        ),
        (Mark::Entry | Mark::Bits, _) => format!(
            "Level {}: the table was there. Its entry {place} now {holds}.",
            row.level
        ),
    })
}

/// Which bits KVM set in the guest's entries.
fn bits_set(of: &FaultFacts, around: &Around) -> Option<String> {
    let mut said: Vec<(String, Vec<String>)> = Vec::new();
    for step in &of.guest_walk {
        let value = walked(step, &of.row);
        let (old, new) = (step.gpte, value);
        let bits = match (
            old.is_accessed() != new.is_accessed(),
            old.is_dirty() != new.is_dirty(),
        ) {
            (false, false) => continue,
            (true, true) => "A and D",
            (true, false) => "A",
            (false, true) => "D",
        };
        let proof = match around.read(step.level, value) {
            Some(fault) => format!("{bits} (fault {} read it)", count(fault)),
            None => format!("{bits} (computed: no later fault read it)"),
        };
        let level = step.level.to_string();
        match said.iter_mut().find(|(same, _)| *same == proof) {
            Some((_, levels)) => levels.push(level),
            None => said.push((proof, vec![level])),
        }
    }
    let said: Vec<_> = said
        .iter()
        .map(|(proof, levels)| format!("level {}: {proof}", levels.join(", ")))
        .collect();
    (!said.is_empty()).then(|| {
        format!(
            "Bits in the guest's entries: {}. The processor does not walk these entries: KVM sets A, \
             and for a store D, in its walk, at the start of this fault, shown here.",
            said.join("; ")
        )
    })
}

pub(super) fn fifth(of: &FaultFacts, around: &Around) -> Vec<String> {
    let mut said = Vec::new();
    for page in &around.next {
        if page.faults.is_empty() {
            said.push(format!("{}: no fault in this recording.", page.gva));
            continue;
        }
        let number = page.faults.len() as u64;
        let faults = page.faults.iter().map(|(fault, class)| {
            let what = match class {
                Class::Guest => "no guest entry: passed on, and the guest's kernel stores one",
                Class::Shadow => "only the shadow entry is missing: KVM writes it",
                other => other.name(),
            };
            format!("fault {} ({what})", count(*fault))
        });
        let faults: Vec<_> = faults.collect();
        let end = match page.is_mapped {
            true => "",
            false => "; none of them stored its shadow entry",
        };
        said.push(format!(
            "{}: {}: {}{end}.",
            page.gva,
            plural(number, "fault"),
            faults.join(", then ")
        ));
    }
    let is_walked = |page: &NextPage| page.walked != page.guest.map(|step| step.gpte);
    if around.next.iter().any(is_walked) {
        said.push("KVM set bits in these guest entries, as in step 4.".to_owned());
    }
    let from = of.row.gva.0 >> 21 << 21;
    let all = around.in_table.iter();
    let all: Vec<_> = all
        .map(|(class, number)| {
            let what = match *class {
                "guest" => "passed on to the guest",
                "shadow" => "for a missing shadow entry",
                other => other,
            };
            format!("{} {what}", count(*number))
        })
        .collect();
    said.push(format!(
        "Faults of the whole recording in the 2 MiB from {from:#x}, which one table of level 1 \
         maps: {}.",
        all.join(", ")
    ));
    said
}
