//! What led to a change of an entry.

use events::{Cause, Class, PageEvent};

use crate::{
    explain::{
        facts::{Because, ChangeFacts, Fate, FaultRef, StoredBy},
        words::{self, bits, fault, kernel},
    },
    text::units::count,
};

/// Adds to a change, which is complete but for that, what led to it.
pub fn of_change(of: &mut ChangeFacts) {
    // Write access is taken since the frame is a guest table: also before a table is synced.
    let is_lone_sync = of.row.cause == Cause::Sync && of.frame_became.is_some();
    let why = kernel::why(match is_lone_sync {
        true => Cause::WriteProtect,
        false => of.row.cause,
    });
    (of.function, of.detail) = (why.function, why.detail);
    of.clause = match of.row.cause {
        Cause::Sync if is_lone_sync => {
            "before a sync, KVM removed write access to the guest's table"
        }
        Cause::Link if of.row.old == Some(of.row.spte) => {
            "the path of a fault that looked a table up, read again: this link was there already"
        }
        _ => why.clause,
    };
    let old = of.row.old;
    of.changed = old.map_or_else(Vec::new, |old| {
        bits::changed(old, of.row.spte, of.row.level)
    });
    of.causes = causes(of).into_iter().flatten().collect();
}

fn causes(of: &ChangeFacts) -> [Option<Because>; 2] {
    match of.row.cause {
        Cause::Sync if of.unsync.is_some() => [Some(sync_trigger(of)), None],
        Cause::Sync if of.frame_became.is_none() => {
            let text = "the event by which its table became unsync is not in the trace";
            [Some(Because::new("unsync_not_recorded", text)), None]
        }
        Cause::Sync | Cause::WriteProtect => {
            let became = frame_became(of);
            let within = within(of).filter(|_| became.is_some());
            [became, within]
        }
        Cause::Invlpg => [Some(invalidation(of)), None],
        Cause::HostUnmap => [copied(of), None],
        Cause::Prefetch => {
            let after =
                |by| Because::new("prefetched", format!("mapped ahead after {}", fault(&by)));
            [of.fault_before.map(after), None]
        }
        Cause::Fault => [dropped(of), None],
        Cause::Reread => [read_again(of), None],
        Cause::Link => [within(of), None],
        Cause::Mmio => [Some(marked(of)), None],
        Cause::GuestWrite | Cause::DirtyLog | Cause::Memslot | Cause::Other => [None, None],
    }
}

/// The fault of its vCPU that was in progress.
fn in_progress(of: &ChangeFacts) -> Option<FaultRef> {
    let next = of.fault_next;
    next.filter(|next| next.time_ns <= of.row.time_ns)
}

fn within(of: &ChangeFacts) -> Option<Because> {
    let by = in_progress(of)?;
    Some(Because::new(
        "within_fault",
        format!("on the path of {}", fault(&by)),
    ))
}

fn marked(of: &ChangeFacts) -> Because {
    let own = in_progress(of);
    let is_own = own.is_some_and(|by| of.translations.contain(by.gva, of.row.level));
    within(of).filter(|_| is_own).unwrap_or_else(|| {
        Because::new(
            "without_fault",
            "no fault on its address stored it: a sync of its table wrote the marker again, or \
             it was mapped ahead",
        )
    })
}

fn sync_trigger(of: &ChangeFacts) -> Because {
    let synced = of.unsync.as_ref().and_then(|period| period.synced);
    match (synced, of.fault_before, of.fault_next) {
        (None, ..) => Because::new(
            "found_by_lookup",
            "the table stays unsync: a lookup found it (kvm_mmu_find_shadow_page), and syncs it \
             first",
        ),
        (Some(_), Some(before), Some(next)) if before.cr3 != next.cr3 => {
            let (from, to) = (before.cr3, next.cr3);
            let text = format!(
                "the guest loaded another CR3 ({from} -> {to}): \
                                kvm_mmu_sync_roots"
            );
            Because::new("cr3_loaded", text)
        }
        (Some(_), ..) => Because::new(
            "same_cr3",
            "the CR3 is the same before and after: a TLB flush, a reload of CR3 \
             (kvm_mmu_sync_roots), or a fault that came through an upper table",
        ),
    }
}

fn frame_became(of: &ChangeFacts) -> Option<Because> {
    let made = of.frame_became.as_ref()?;
    let (kind, what) = match made.event {
        PageEvent::Born => ("table_made", "was made to shadow it"),
        PageEvent::Sync => (
            "table_synced",
            "that shadows it is synced: no store may come in between",
        ),
        PageEvent::Reused => ("table_reused", "that shadows it was found again"),
        _ => ("table_event", "that shadows it had an event"),
    };
    let (level, spt, seq) = (made.level, made.spt, count(made.seq.0));
    Some(Because::new(
        kind,
        format!("level {level} table {spt} {what} (seq {seq})"),
    ))
}

fn invalidation(of: &ChangeFacts) -> Because {
    let injected = of.fault_next.filter(|_| of.fault_next_is_injected);
    match injected.filter(|next| of.translations.contain(next.gva, of.row.level)) {
        Some(by) => {
            let by = fault(&by);
            let text = format!(
                "KVM injected {by} into the guest, with P set: it invalidates the address before \
                 that"
            );
            Because::new("injected_fault", text)
        }
        None => Because::new(
            "guest_invalidation",
            "no injected fault on its address followed at once: INVLPG or INVPCID of the guest",
        ),
    }
}

/// What the host copied the frame for, where it acted on a vCPU's own thread.
fn copied(of: &ChangeFacts) -> Option<Because> {
    let thread = words::thread(Some(of.row.vcpu?));
    let on = format!("on the thread of {thread} itself");
    let (kind, what) = match (&of.store, copied_for(of)) {
        (Some(store), _) => {
            let (gpa, seq) = (store.gpa, count(store.seq.0));
            let what = format!(", as KVM emulates a store to gpa {gpa} (seq {seq})");
            ("copied_for_store", what)
        }
        (None, Some(by)) if by.class == Class::Retried => {
            let what = format!(
                " (or moves it) for {}, which KVM gave up for that",
                fault(&by)
            );
            ("copied_for_retried", what)
        }
        (None, Some(by)) => {
            let what = format!(", as KVM emulates the store of {}", fault(&by));
            ("copied_for_fault", what)
        }
        (None, None) => {
            let what = "as where the host copies a page on write; no fault on this frame that KVM \
                        gave up or emulated follows at once";
            return Some(Because::new("copied_on_thread", format!("{on}, {what}")));
        }
    };
    let text = format!("{on}: the host copies its page on write{what}");
    Some(Because::new(kind, text))
}

/// The next fault, if the host copied the frame for it: it is about the same frame, and KVM gave
/// it up or emulates its store.
fn copied_for(of: &ChangeFacts) -> Option<FaultRef> {
    let next = of.fault_next?;
    let is_its = match next.gfn.zip(of.row.gfn) {
        Some((of_fault, of_entry)) => of_fault == of_entry,
        None => of.translations.contain(next.gva, of.row.level),
    };
    let stores = matches!(next.class, Class::Retried | Class::WriteProtected);
    (is_its && stores).then_some(next)
}

fn read_again(of: &ChangeFacts) -> Option<Because> {
    let around = [of.fault_before, in_progress(of)].into_iter().flatten();
    let mut retried = around.filter(|by| by.class == Class::Retried);
    let text = format!(
        "read again after {}, which KVM gave up",
        fault(&retried.next()?)
    );
    Some(Because::new("read_after_retry", text))
}

fn dropped(of: &ChangeFacts) -> Option<Because> {
    let link = of.followed.first().and_then(|fate| match fate {
        Fate::Stored { by, .. } if by.by == StoredBy::Cause(Cause::Link) => Some(by.seq),
        _ => None,
    });
    match (in_progress(of), of.fault_before) {
        (Some(by), _) if of.fault_next_stores_it => {
            let text = format!("{} maps another frame in its place", fault(&by));
            Some(Because::new("replaced_by_frame", text))
        }
        (Some(by), _) if link.is_some_and(|link| link < by.seq) => {
            let text = "a table takes the large page's place (__link_shadow_page), on the path of";
            Some(Because::new(
                "replaced_by_table",
                format!("{text} {}", fault(&by)),
            ))
        }
        (_, Some(by)) if by.gfn.is_some() && by.gfn == of.row.gfn => {
            let text = "mapped the frame once more than KVM keeps track of, so __rmap_add \
                        dropped all its entries, the new one too";
            Some(Because::new(
                "rmap_recycled",
                format!("{} {text}", fault(&by)),
            ))
        }
        _ => None,
    }
}
