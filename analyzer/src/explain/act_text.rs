//! A store, an act of the host, a root or a mark as text for 100 columns.

use trace::{HostRow, Record, RootRow};

use super::{
    act::Act,
    bits,
    change_text::{guest, phase, thread, ways, wrap, writer},
    why,
};
use crate::text::{
    flags, plain,
    units::{count, ns, plural, since},
};

/// What the record tells.
pub(super) fn text(of: &Act) -> String {
    let record = &of.record;
    let mut out = format!(
        "Record {} of VM {}, {} after the start{}\n",
        record.seq().0,
        record.vm().0,
        since(record.time().0, of.start_ns),
        phase(of.phase.as_ref()),
    );
    match record {
        Record::Write(_) => store(&mut out, of),
        Record::Host(row) => host(&mut out, of, row),
        Record::Root(row) => root(&mut out, of, row),
        Record::Mark(row) => out.push_str(&format!(
            "  {} on {}: {}\n",
            match row.keyframe {
                Some(number) => format!("keyframe {number} is complete"),
                None => "the guest's mark".to_owned(),
            },
            thread(row.vcpu.map(|vcpu| vcpu.0)),
            match row.pages {
                Some(pages) => format!("{} of the kernel's", plural(u64::from(pages), "page")),
                None => format!("the phase {} begins", plain(&row.name)),
            }
        )),
        Record::Keyframe(page) => out.push_str(&format!(
            "  a page of keyframe {}, as the kernel held it: level {} table {}, gfn {}, {} not empty\n",
            page.keyframe,
            page.level,
            page.spt,
            page.gfn,
            plural(page.entries.len() as u64, "entry"),
        )),
        // Told otherwise, or without a number of their own.
        Record::Fault(_) | Record::Entry(_) | Record::Page(_) | Record::Loss(_) => {}
    }
    out
}

fn store(out: &mut String, of: &Act) {
    let Some(store) = of.as_store() else { return };
    let before = store
        .before
        .map(|before| format!("{before:#x} -> "))
        .unwrap_or_default();
    out.push_str(&format!(
        "  a store of vCPU {} that KVM emulated: gpa {} = {before}{:#x} ({} bytes)\n\n",
        store.vcpu.0, store.gpa, store.value, store.bytes
    ));
    out.push_str("1  Which table\n");
    if of.shadows.is_empty() {
        out.push_str(
            "   none that KVM shadows: it was emulated for another reason, and changes no entry\n",
        );
    }
    for shadow in &of.shadows {
        let state = match shadow.unsync {
            true => "unsync",
            false => "write-protected",
        };
        out.push_str(&format!(
            "   gfn {}: level {} table {} shadows it ({state})\n   entry {} = {:#x} {}\n",
            store.gpa.gfn(),
            shadow.level,
            shadow.spt,
            shadow.place.index(),
            shadow.spte.0,
            bits::meaning(shadow.spte, shadow.level),
        ));
        ways(out, &shadow.ways);
    }
    if let Some(entry) = &of.guest {
        guest(out, entry, of.record.time());
    }
    if !of.shadows.is_empty() {
        out.push_str(&format!(
            "   stores to it since KVM last used it as a table: {}\n",
            of.stores
        ));
    }
    out.push_str("2  What it changed\n");
    changed(out, of);
    for page in &of.zapped {
        let why = match page.level.0 > 1 && of.stores >= 3 {
            true => {
                "write flooding: the third store since its last use, so KVM takes it for no table any more"
            }
            false => {
                "the store is short or crosses entries, so KVM does not tell which one it makes stale"
            }
        };
        out.push_str(&format!(
            "   level {} table {} was zapped (seq {})\n",
            page.level,
            page.spt,
            count(page.seq.0)
        ));
        wrap(out, why);
    }
    back(out, of);
}

fn changed(out: &mut String, of: &Act) {
    for row in &of.changed {
        let old = row.old.map_or("?".to_owned(), |old| {
            format!("{:#x} {}", old.0, flags::spte(old))
        });
        out.push_str(&format!(
            "   level {} entry {}: {old} -> {:#x} {} ({})\n",
            row.level,
            row.sptep,
            row.spte.0,
            flags::spte(row.spte),
            row.cause.name()
        ));
    }
    let more = of.changed_total.saturating_sub(of.changed.len() as u64);
    if more > 0 {
        out.push_str(&format!("   and {} more\n", plural(more, "entry")));
    }
    if of.changed_total == 0 && of.zapped.is_empty() {
        out.push_str("   no shadow entry that the trace shows\n");
    }
}

fn back(out: &mut String, of: &Act) {
    out.push_str("3  What followed\n");
    match &of.back {
        Some((by, after)) => out.push_str(&format!(
            "   {} later the first of these entries was made again, by {}\n",
            ns(*after),
            writer(by)
        )),
        None if !of.emptied() && of.zapped.is_empty() => {
            out.push_str("   it emptied no entry, so none had to be made again\n")
        }
        None => out.push_str("   none of these entries was made again that the trace shows\n"),
    }
}

fn host(out: &mut String, of: &Act, row: &HostRow) {
    let slot = row
        .slot
        .map(|slot| format!(" of slot {}", slot.0))
        .unwrap_or_default();
    out.push_str(&format!(
        "  {}: {}\n  gfn {} and on, {}{slot}, on {}\n\n",
        row.event.name(),
        why::act(row.event),
        row.gfn,
        plural(row.pages, "frame"),
        thread(row.vcpu.map(|vcpu| vcpu.0)),
    ));
    out.push_str("1  What it changed\n");
    changed(out, of);
    out.push_str("2  The frames' tables stay; only leaves go or lose rights\n");
    back(out, of);
}

fn root(out: &mut String, of: &Act, row: &RootRow) {
    out.push_str(&format!(
        "  vCPU {} was first seen on another root: cr3 {}, shadow root {} (level {})\n",
        row.vcpu.0, row.cr3, row.root, row.level
    ));
    match of.root_before {
        Some(before) if before.cr3 == row.cr3 => out.push_str(&format!(
            "  before: the same cr3 on shadow root {}: that root was dropped, or the role changed\n",
            before.root
        )),
        Some(before) => out.push_str(&format!(
            "  before: cr3 {}, shadow root {}: the guest loaded CR3 (kvm_mmu_new_pgd)\n",
            before.cr3, before.root
        )),
        None => out.push_str("  it is the first one seen of this vCPU\n"),
    }
    match of.root_entries {
        Some(0) => out.push_str("  the root is empty: all below it is yet to be made by faults\n"),
        Some(entries) => out.push_str(&format!(
            "  the root was there already, with {}: what stands below is used again\n",
            plural(u64::from(entries), "entry")
        )),
        None => out.push_str("  the root is no shadow page that a record made\n"),
    }
}
