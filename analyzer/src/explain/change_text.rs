//! A change as text for 100 columns.

use events::{Cause, Class, PageEvent, Spte, TimeNs};
use trace::PageRow;

use super::{
    bits,
    change::{After, Change},
    history::{By, FaultRef, GuestEntry, Source, Writer},
    text::cleared,
    unsync::Period,
    ways::Ways,
};
use crate::text::{
    flags,
    units::{count, ns, plural, since},
};

/// The story of a change.
pub(super) fn text(of: &Change) -> String {
    let row = &of.row;
    let why = of.why();
    let mut out = format!(
        "Change {} of VM {} on {}, {} after the start (seq {}){}\n  {}: {}\n",
        of.index,
        row.vm.0,
        thread(row.vcpu.map(|vcpu| vcpu.0)),
        since(row.time_ns.0, of.start_ns),
        row.seq.0,
        phase(of.phase.as_ref()),
        row.cause.name(),
        clause(of),
    );
    if of.missing > 0 {
        out.push_str(&format!(
            "  {} are missing before it: what is told of the tables cannot be vouched for\n",
            plural(of.missing, "record")
        ));
    }
    out.push('\n');
    which(&mut out, of);
    difference(&mut out, of);
    out.push_str(&format!("3  Why: {}\n", why.function));
    for line in why.lines {
        out.push_str(&format!("   {line}\n"));
    }
    behind(&mut out, of);
    followed(&mut out, of);
    out.push_str(&format!("\n{}\n", flags::LEGEND));
    out
}

/// What happened, in one clause.
fn clause(of: &Change) -> &'static str {
    match of.row.cause {
        Cause::Sync if of.protects() => {
            "before a sync, write access was taken from the guest's table"
        }
        Cause::Link if of.is_no_change() => {
            "the way of a fault that looked a table up, read again: this link stood already"
        }
        _ => of.why().clause,
    }
}

/// `vCPU 0`, or that it was none.
pub(super) fn thread(vcpu: Option<u16>) -> String {
    match vcpu {
        Some(vcpu) => format!("vCPU {vcpu}"),
        None => "a thread that is no vCPU".to_owned(),
    }
}

/// `, in phase touch`.
pub(super) fn phase(phase: Option<&(String, TimeNs)>) -> String {
    match phase {
        Some((name, _)) => format!(", in phase {}", crate::text::plain(name)),
        None => String::new(),
    }
}

/// `fault 12 (shadow, gva 0x1000)`.
pub(super) fn fault(fault: &FaultRef) -> String {
    format!(
        "fault {} ({}, gva {}, vCPU {})",
        fault.index,
        fault.class.name(),
        fault.gva,
        fault.vcpu.0
    )
}

/// `fault 12 (…)`, or `dirty_log (seq 3)`.
pub(super) fn writer(writer: &Writer) -> String {
    match &writer.by {
        By::Fault(of) => fault(of),
        By::Change(cause) => format!(
            "{} (seq {}, {})",
            cause.name(),
            count(writer.seq.0),
            thread(writer.vcpu.map(|vcpu| vcpu.0))
        ),
    }
}

/// The addresses that an entry translates, as lines.
pub(super) fn ways(out: &mut String, ways: &Ways) {
    for way in &ways.found {
        let cr3 = way
            .cr3
            .map(|cr3| format!(" (cr3 {cr3})"))
            .unwrap_or_default();
        out.push_str(&format!(
            "   translates gva {} from root {}{cr3}\n",
            way.gva, way.root
        ));
    }
    if ways.found.is_empty() {
        out.push_str("   no root leads to it: it translates no address now\n");
    }
    if ways.more {
        out.push_str("   and more that are not listed\n");
    }
}

/// The guest's entry, as lines.
pub(super) fn guest(out: &mut String, guest: &GuestEntry, time: TimeNs) {
    out.push_str(&format!(
        "   the guest's entry {} at gpa {}:\n",
        guest.index, guest.place
    ));
    match &guest.known {
        None => out.push_str("      what stands there was never seen\n"),
        Some((gpte, source)) => {
            let from = match source {
                Source::Store(seq, at) => {
                    let before = ns(time.0.saturating_sub(at.0));
                    format!("stored {before} before (seq {})", count(seq.0))
                }
                Source::Walk(of) => format!("read by {}", fault(of)),
            };
            out.push_str(&format!("      {}\n      {from}\n", bits::guest(*gpte)));
        }
    }
    if let Some(before) = guest.before {
        out.push_str(&format!("      before that {}\n", bits::guest(before)));
    }
}

fn which(out: &mut String, of: &Change) {
    out.push_str("1  Which entry\n");
    let row = &of.row;
    let place = row.sptep;
    match of.table {
        None => out.push_str(&format!(
            "   level {} entry {place}, in a table that no record made known\n",
            row.level
        )),
        Some(table) => {
            out.push_str(&format!(
                "   entry {} of level {} table {}, at {place}\n",
                place.index(),
                table.level,
                table.spt
            ));
            let behind = match (table.direct, table.unsync) {
                (true, _) => "is direct, with no guest table behind it: it maps from",
                (false, true) => "is unsync, and shadows the guest's table at",
                (false, false) => "shadows the guest's table at",
            };
            out.push_str(&format!("   the table {behind} gfn {}\n", table.gfn));
            ways(out, &of.ways);
        }
    }
    if let Some(entry) = &of.guest {
        guest(out, entry, row.time_ns);
        let is_unseen = matches!(row.cause, Cause::Sync | Cause::Invlpg);
        if is_unseen {
            out.push_str("      (stores to an unsync table are not seen)\n");
        }
        if let Some((gpte, by)) = of
            .guest_later
            .as_ref()
            .filter(|_| is_unseen || entry.known.is_none())
        {
            out.push_str(&format!(
                "      later there stood {}\n      read by {}\n",
                bits::guest(*gpte),
                fault(by)
            ));
        }
    }
}

fn value(spte: Spte) -> String {
    format!("{:#x} {}", spte.0, flags::spte(spte))
}

fn difference(out: &mut String, of: &Change) {
    let row = &of.row;
    out.push_str("2  What changed\n");
    let old = of.old.map_or("unknown".to_owned(), value);
    out.push_str(&format!("   {old} -> {}\n", value(row.spte)));
    if row.old.is_none() && of.old.is_some() {
        out.push_str("   (the value before is replay's: this probe does not read it)\n");
    }
    if let Some(old) = of.old {
        for line in bits::changed(old, row.spte, row.level) {
            out.push_str(&format!("   {line}\n"));
        }
    }
    if let Some(gfn) = row.gfn {
        out.push_str(&format!("   the guest's frame is gfn {gfn}\n"));
    }
    if let Some(before) = &of.writer {
        let age = ns(row.time_ns.0.saturating_sub(before.time.0));
        out.push_str(&format!(
            "   it was stored {age} before, by {}\n",
            writer(before)
        ));
    }
}

fn behind(out: &mut String, of: &Change) {
    out.push_str("4  What led to it\n");
    let row = &of.row;
    let before = out.len();
    match row.cause {
        Cause::GuestWrite => store(out, of),
        Cause::Sync => match (&of.made, &of.period) {
            (Some(made), _) => protected_by(out, of, made),
            (None, Some(of_page)) => {
                period(out, of_page);
                synced_by(out, of);
            }
            (None, None) => out.push_str("   that its table was unsync is not in the trace\n"),
        },
        Cause::Invlpg => {
            if let Some(of_page) = &of.period {
                period(out, of_page);
            }
            invalidated_by(out, of);
        }
        Cause::HostUnmap => {
            host(out, of);
            copied(out, of);
        }
        Cause::DirtyLog | Cause::Memslot => host(out, of),
        Cause::WriteProtect => {
            if let Some(made) = &of.made {
                protected_by(out, of, made);
            }
        }
        Cause::Prefetch => {
            if let Some(by) = of.before {
                out.push_str(&format!("   mapped ahead after {}\n", fault(&by)));
            }
        }
        Cause::Fault => dropped_by(out, of),
        Cause::Reread => {
            host(out, of);
            let mut around = [of.before, of.within()].into_iter().flatten();
            if let Some(by) = around.find(|by| by.class == Class::Retried) {
                out.push_str(&format!(
                    "   read again after {}, which KVM gave up\n",
                    fault(&by)
                ));
            }
        }
        Cause::Link => {
            if let Some(by) = of.within() {
                out.push_str(&format!("   on the way of {}\n", fault(&by)));
            }
        }
        Cause::Mmio => match of.within() {
            Some(by) if of.ways.lead(by.gva, row.level) => {
                out.push_str(&format!("   on the way of {}\n", fault(&by)));
            }
            _ => wrap(
                out,
                "by no fault on its address: a sync of its table wrote the marker again, or it was mapped ahead",
            ),
        },
        Cause::Other => {}
    }
    if out.len() == before {
        out.push_str("   nothing that the trace shows\n");
    }
    if of.together > 1 {
        out.push_str(&format!(
            "   from this one on, one after the other: {} of this cause\n",
            plural(of.together, "change")
        ));
    }
}

fn store(out: &mut String, of: &Change) {
    let Some(store) = &of.store else { return };
    let before = store.before.or_else(|| Some(of.guest?.before?.0));
    let before = before
        .map(|before| format!("{before:#x} -> "))
        .unwrap_or_default();
    out.push_str(&format!(
        "   vCPU {} stored {} bytes, {} earlier (seq {}); the emulator did it:\n      gpa {} = {before}{:#x}\n",
        store.vcpu.0,
        store.bytes,
        ns(of.row.time_ns.0.saturating_sub(store.time.0)),
        count(store.seq.0),
        store.gpa,
        store.value,
    ));
    if !store.cleared.is_empty() {
        out.push_str("   it cleared before:\n");
        cleared(out, store);
    }
}

/// An unsync time of a page, as lines.
pub(super) fn period(out: &mut String, of: &Period) {
    let by = of
        .fault
        .map(|by| format!(", by {}", fault(&by)))
        .unwrap_or_default();
    out.push_str(&format!(
        "   its table went unsync (seq {}){by}\n",
        count(of.seq.0)
    ));
    if let Some((seq, at, vcpu)) = of.synced {
        out.push_str(&format!(
            "   {} later {} took it to be synced (kvm_mmu_sync_page, seq {})\n",
            ns(at.0.saturating_sub(of.time.0)),
            thread(vcpu.map(|vcpu| vcpu.0)),
            count(seq.0),
        ));
    }
    if of.by_sync + of.by_invlpg > 0 {
        out.push_str(&format!(
            "   of its entries {} changed by syncs, {} by INVLPG and injected faults\n",
            count(of.by_sync),
            count(of.by_invlpg)
        ));
    }
}

/// What made KVM sync, as far as the records tell.
fn synced_by(out: &mut String, of: &Change) {
    let taken = of.period.and_then(|period| period.synced);
    let line = match (taken, of.before, of.next) {
        (None, ..) => {
            "it stays unsync: it was found by a lookup (kvm_mmu_find_shadow_page), which syncs it first"
                .to_owned()
        }
        (Some(_), Some(before), Some(next)) if before.cr3 != next.cr3 => format!(
            "the guest had loaded another CR3 ({} -> {}): kvm_mmu_sync_roots",
            before.cr3, next.cr3
        ),
        (Some(_), ..) => {
            "the CR3 is the same before and after: a TLB flush or a reload of it (kvm_mmu_sync_roots), or \
             a fault came through an upper table"
                .to_owned()
        }
    };
    wrap(out, &line);
}

fn invalidated_by(out: &mut String, of: &Change) {
    match of.next.filter(|_| of.next_was_injected) {
        Some(next) if of.ways.lead(next.gva, of.row.level) => out.push_str(&format!(
            "   KVM told the guest of {}, with P set: the address is invalidated before\n",
            fault(&next)
        )),
        _ => out.push_str(
            "   no injected fault on its address followed at once: the guest's INVLPG or INVPCID\n",
        ),
    }
}

fn host(out: &mut String, of: &Change) {
    let Some(act) = &of.act else { return };
    out.push_str(&format!("   {}\n", super::why::act(act.event)));
    let slot = act
        .slot
        .map(|slot| format!(", slot {}", slot.0))
        .unwrap_or_default();
    out.push_str(&format!(
        "   gfn {} and {} in all{slot}, {} earlier, on {} (seq {})\n",
        act.gfn,
        plural(act.pages, "frame"),
        ns(of.row.time_ns.0.saturating_sub(act.time_ns.0)),
        thread(act.vcpu.map(|vcpu| vcpu.0)),
        count(act.seq.0),
    ));
}

/// Whom the host took the frame away for, where it did so on a vCPU's own thread.
fn copied(out: &mut String, of: &Change) {
    let Some(vcpu) = of.row.vcpu else { return };
    let on = format!("on the thread of vCPU {} itself", vcpu.0);
    if let Some(store) = &of.store {
        wrap(
            out,
            &format!(
                "{on}: the host copies its page on write, as KVM emulates a store to gpa {} (seq {})",
                store.gpa,
                count(store.seq.0)
            ),
        );
        return;
    }
    let line = match of.copied_for() {
        Some(next) if next.class == Class::Retried => format!(
            "{on}: the host copies its page on write (or moves it) for {}, which KVM gave up for that",
            fault(&next)
        ),
        Some(next) => format!(
            "{on}: the host copies its page on write, as KVM emulates the store of {}",
            fault(&next)
        ),
        None => format!(
            "{on}, as where the host copies a page on write; no fault on this frame that KVM gave up or \
             emulated follows at once"
        ),
    };
    wrap(out, &line);
}

fn protected_by(out: &mut String, of: &Change, made: &PageRow) {
    let what = match made.event {
        PageEvent::Born => "was made to shadow it",
        PageEvent::Sync => "that shadows it is synced: no store may come between",
        PageEvent::Reused => "that shadows it was found again",
        _ => "that shadows it had an event",
    };
    out.push_str(&format!(
        "   level {} table {} {what} (seq {})\n",
        made.level,
        made.spt,
        count(made.seq.0)
    ));
    if let Some(next) = of.within() {
        out.push_str(&format!("   on the way of {}\n", fault(&next)));
    }
}

fn dropped_by(out: &mut String, of: &Change) {
    let link = of.after.first().and_then(|after| match after {
        After::Stored { by, spte } if by.by == By::Change(Cause::Link) => Some((by, spte)),
        _ => None,
    });
    match (of.within(), of.before) {
        (Some(next), _) if of.next_is_its => {
            out.push_str(&format!(
                "   {} maps another frame in its place\n",
                fault(&next)
            ));
        }
        (Some(next), _) if link.is_some_and(|(by, _)| by.seq < next.seq) => wrap(
            out,
            &format!(
                "a table takes the large page's place (__link_shadow_page), on the way of {}",
                fault(&next)
            ),
        ),
        (_, Some(before)) if before.gfn.is_some() && before.gfn == of.row.gfn => wrap(
            out,
            &format!(
                "{} mapped the frame once more than KVM keeps track of, so __rmap_add dropped all its entries, \
                 the new one too",
                fault(&before)
            ),
        ),
        _ => {}
    }
}

/// What came after, as lines.
fn followed(out: &mut String, of: &Change) {
    out.push_str("5  What followed\n");
    let later = |time: TimeNs| ns(time.0.saturating_sub(of.row.time_ns.0));
    for after in &of.after {
        let line = match after {
            After::Stored { by, spte } => format!(
                "{} later stored again, by {}:\n      {}",
                later(by.time),
                writer(by),
                value(*spte)
            ),
            After::Fault(next) => format!(
                "{} later an access to it: {}",
                later(next.time),
                fault(next)
            ),
            After::TableZapped(row) => format!(
                "{} later its table was zapped (seq {})",
                later(row.time_ns),
                count(row.seq.0)
            ),
        };
        out.push_str(&format!("   {line}\n"));
    }
    if of.after.is_empty() {
        out.push_str("   nothing on this entry that the trace shows\n");
    }
    if let Some(gone) = of.missing_ns() {
        out.push_str(&format!("   the entry was gone for {}\n", ns(gone)));
    }
}

/// One sentence as lines of text, below a step.
pub(super) fn wrap(out: &mut String, sentence: &str) {
    wrap_at(out, sentence, 3);
}

/// One sentence as lines of text, so many columns in.
pub(super) fn wrap_at(out: &mut String, sentence: &str, indent: usize) {
    let mut line = String::new();
    for word in sentence.split_whitespace() {
        if !line.is_empty() && indent + line.len() + word.len() >= 99 {
            out.push_str(&format!("{:indent$}{line}\n", ""));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&format!("{:indent$}{line}\n", ""));
}
