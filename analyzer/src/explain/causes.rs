//! What led to a fault, a change or a page's state, inferred from the facts.

use events::{Cause, Class, PageEvent, Spte};

use super::{
    facts::{
        ChangeCause, ChangeFacts, CopyOnWrite, Fate, FaultCause, FaultFacts, GuestRefusal,
        MissingRight, NeverUnsync, PageChange, PageFacts, StoredBy, WriteProtection, ZapCause,
    },
    words::{bits, kernel},
};

const PRESENT: u32 = 1;
const WRITE: u32 = 1 << 1;
const USER: u32 = 1 << 2;
const RESERVED: u32 = 1 << 3;
const FETCH: u32 = 1 << 4;

/// Adds to a fault, which is complete but for that, what led to it.
pub(super) fn of_fault(of: &mut FaultFacts) {
    of.cause = match of.row.class {
        Class::Guest => FaultCause::InjectedFault {
            syncs_address: of.row.error_code & PRESENT != 0,
        },
        Class::Shadow => shadow(of),
        Class::WriteProtected => FaultCause::WriteProtected {
            protection: protection(of),
        },
        Class::Unsync => FaultCause::BecameUnsync,
        Class::Mmio if of.row.error_code & RESERVED != 0 => FaultCause::MmioMarker,
        Class::Mmio => FaultCause::NoMemslot,
        Class::Fast => FaultCause::WriteRestored,
        Class::Spurious => FaultCause::AlreadyAllowed,
        Class::Retried => retried(of),
    };
    if of.row.class == Class::Guest && of.row.gpa.is_none() {
        of.guest_refusal = Some(guest_refusal(of));
    }
    if of.row.class == Class::WriteProtected {
        let gfn = of.row.gpa.map(|gpa| gpa.gfn());
        let store = of.store.as_ref().map(|store| store.seq);
        for page in of.pages.iter_mut().chain(&mut of.zapped_after) {
            let PageChange { row, .. } = page;
            if row.event == PageEvent::Zapped && row.direct == 0 && Some(row.gfn) == gfn {
                page.zapped_by = Some(match store {
                    Some(seq) => ZapCause::of_store(seq, page.stores_since_use, row.level),
                    None => ZapCause::StoreRetried,
                });
            }
        }
    }
}

fn shadow(of: &FaultFacts) -> FaultCause {
    let Some(before) = of.before.filter(|before| before.is_shadow_present()) else {
        return match (&of.emptied, of.row.created) {
            (Some(row), _) if row.cause == Cause::Reread => FaultCause::EntryFoundEmpty,
            (Some(_), _) => FaultCause::EntryEmptied,
            (None, created @ 1..) => FaultCause::TablesMissing { created },
            (None, 0) => FaultCause::NeverMapped,
        };
    };
    FaultCause::TooWeak {
        missing_right: missing_right(of, before),
    }
}

fn missing_right(of: &FaultFacts, before: Spte) -> Option<MissingRight> {
    let (error, after) = (of.row.error_code, of.row.spte.unwrap_or_default());
    if error & WRITE != 0 && !before.is_writable() && after.is_writable() {
        let writer = of.stored_before;
        let by_log = writer.is_some_and(|by| by.by == StoredBy::Cause(Cause::DirtyLog));
        return Some(match (by_log, before.is_mmu_writable()) {
            (true, _) => MissingRight::WriteForDirtyLog,
            (false, true) => MissingRight::WriteAfterLoads,
            (false, false) => MissingRight::WriteNotDirtyOrTable,
        });
    }
    (error & FETCH != 0 && !before.is_executable()).then_some(MissingRight::Execute)
}

fn protection(of: &FaultFacts) -> WriteProtection {
    let upper = of.shadows_of_frame.iter().find(|page| page.level.0 > 1);
    match (upper, of.shadows_of_frame.is_empty()) {
        _ if of.row.sptep.is_some() => WriteProtection::LeafReadOnly,
        (Some(page), _) => WriteProtection::UpperTable {
            spt: page.spt,
            level: page.level,
        },
        (None, false) => WriteProtection::LeafTable,
        (None, true) => WriteProtection::NoShadowKnown,
    }
}

fn retried(of: &FaultFacts) -> FaultCause {
    let read = of.read_again.as_ref();
    match read.filter(|row| !row.spte.is_shadow_present()) {
        _ if of.host.is_some() => FaultCause::HostChanged,
        Some(_) => FaultCause::FrameTaken,
        None => FaultCause::GivenUp,
    }
}

fn guest_refusal(of: &FaultFacts) -> GuestRefusal {
    let error = of.row.error_code;
    let Some(step) = of.guest_walk.last() else {
        return GuestRefusal::NotRecorded;
    };
    if !step.gpte.is_present() {
        GuestRefusal::NotPresent(step.level)
    } else if error & WRITE != 0 && !step.gpte.is_writable() {
        GuestRefusal::NotWritable(step.level)
    } else if error & USER != 0 && !step.gpte.is_user() {
        GuestRefusal::NotUser(step.level)
    } else {
        GuestRefusal::Rights
    }
}

/// Adds to a change, which is complete but for that, what led to it.
pub(super) fn of_change(of: &mut ChangeFacts) {
    of.function = kernel::why(if protects(of) {
        Cause::WriteProtect
    } else {
        of.row.cause
    })
    .function;
    let old = of.row.old;
    of.changed = old.map_or_else(Vec::new, |old| {
        bits::changed(old, of.row.spte, of.row.level)
    });
    let guest_before = of.guest_entry.and_then(|entry| entry.before);
    if let Some(store) = &mut of.store {
        store.before = store.before.or(guest_before.map(|gpte| gpte.0));
    }
    of.causes = match of.row.cause {
        Cause::GuestWrite => present(&of.store, ChangeCause::Store),
        Cause::Sync => sync(of),
        Cause::Invlpg => {
            let mut causes = present(&of.unsync, ChangeCause::Unsync);
            causes.push(invalidation(of));
            causes
        }
        Cause::HostUnmap => {
            let mut causes = present(&of.host, ChangeCause::Host);
            if of.row.vcpu.is_some() {
                causes.push(ChangeCause::CopyOnWrite(copy_on_write(of)));
            }
            causes
        }
        Cause::DirtyLog | Cause::Memslot => present(&of.host, ChangeCause::Host),
        Cause::WriteProtect if of.frame_became.is_some() => frame_became(of),
        Cause::Prefetch => {
            let after = |fault| ChangeCause::PrefetchedAfter { fault };
            of.fault_before.map(after).into_iter().collect()
        }
        Cause::Fault => dropped(of).into_iter().collect(),
        Cause::Reread => {
            let mut causes = present(&of.host, ChangeCause::Host);
            let around = [of.fault_before, of.within()].into_iter().flatten();
            let mut retried = around.filter(|fault| fault.class == Class::Retried);
            causes.extend(
                retried
                    .next()
                    .map(|fault| ChangeCause::ReadAfterRetry { fault }),
            );
            causes
        }
        Cause::Link => within(of).into_iter().collect(),
        Cause::Mmio => {
            let own = of.within();
            let own = own.filter(|by| of.translations.contain(by.gva, of.row.level));
            let own = own.map(|fault| ChangeCause::WithinFault { fault });
            vec![own.unwrap_or(ChangeCause::WithoutFault)]
        }
        Cause::WriteProtect | Cause::Other => Vec::new(),
    };
}

/// Write access is taken since the frame is a guest table: also before a table is synced.
pub(super) fn protects(of: &ChangeFacts) -> bool {
    let is_sync = of.row.cause == Cause::Sync && of.frame_became.is_some();
    of.row.cause == Cause::WriteProtect || is_sync
}

fn present<T>(fact: &Option<T>, cause: ChangeCause) -> Vec<ChangeCause> {
    fact.iter().map(|_| cause.clone()).collect()
}

fn within(of: &ChangeFacts) -> Option<ChangeCause> {
    let within = of.within();
    within.map(|fault| ChangeCause::WithinFault { fault })
}

fn frame_became(of: &ChangeFacts) -> Vec<ChangeCause> {
    let mut causes = vec![ChangeCause::FrameBecame];
    causes.extend(within(of));
    causes
}

fn sync(of: &ChangeFacts) -> Vec<ChangeCause> {
    let Some(period) = &of.unsync else {
        return match of.frame_became {
            Some(_) => frame_became(of),
            None => vec![ChangeCause::UnsyncNotRecorded],
        };
    };
    if of.frame_became.is_some() {
        return frame_became(of);
    }
    let trigger = match (period.synced, of.fault_before, of.fault_next) {
        (None, ..) => ChangeCause::FoundByLookup,
        (Some(_), Some(before), Some(next)) if before.cr3 != next.cr3 => ChangeCause::Cr3Loaded {
            from: before.cr3,
            to: next.cr3,
        },
        (Some(_), ..) => ChangeCause::SameCr3,
    };
    vec![ChangeCause::Unsync, trigger]
}

fn invalidation(of: &ChangeFacts) -> ChangeCause {
    let injected = of.fault_next.filter(|_| of.fault_next_is_injected);
    match injected.filter(|next| of.translations.contain(next.gva, of.row.level)) {
        Some(fault) => ChangeCause::Injected { fault },
        None => ChangeCause::GuestInvalidation,
    }
}

fn copy_on_write(of: &ChangeFacts) -> CopyOnWrite {
    match (&of.store, of.copied_for()) {
        (Some(store), _) => CopyOnWrite::Store {
            seq: store.seq,
            gpa: store.gpa,
        },
        (None, Some(fault)) => CopyOnWrite::Fault { fault },
        (None, None) => CopyOnWrite::Unknown,
    }
}

fn dropped(of: &ChangeFacts) -> Option<ChangeCause> {
    let link = of.followed.first().and_then(|fate| match fate {
        Fate::Stored { by, .. } if by.by == StoredBy::Cause(Cause::Link) => Some(by.seq),
        _ => None,
    });
    match (of.within(), of.fault_before) {
        (Some(fault), _) if of.fault_next_stores_it => Some(ChangeCause::ReplacedByFrame { fault }),
        (Some(fault), _) if link.is_some_and(|link| link < fault.seq) => {
            Some(ChangeCause::ReplacedByTable { fault })
        }
        (_, Some(fault)) if fault.gfn.is_some() && fault.gfn == of.row.gfn => {
            Some(ChangeCause::RmapRecycled { fault })
        }
        _ => None,
    }
}

/// Adds to a page's life why it never was unsync.
pub(super) fn of_page(of: &mut PageFacts) {
    of.never_unsync = (of.unsync_total == 0).then_some(match (of.direct, of.level.0) {
        (true, _) => NeverUnsync::Direct,
        (false, 1) => NeverUnsync::NoStore,
        (false, _) => NeverUnsync::UpperLevel,
    });
}
