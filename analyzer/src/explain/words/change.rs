//! What led to a change of an entry.

use events::{Cause, Class, PageEvent};

use super::{fault, kernel, thread};
use crate::{
    explain::facts::{ChangeCause, ChangeFacts, CopyOnWrite},
    text::units::count,
};

/// What happened, in one clause.
pub fn change_clause(of: &ChangeFacts) -> &'static str {
    match of.row.cause {
        Cause::Sync if of.frame_became.is_some() => {
            "before a sync, KVM removed write access to the guest's table"
        }
        Cause::Link if of.is_no_change() => {
            "the path of a fault that looked a table up, read again: this link was there already"
        }
        cause => kernel::why(cause).clause,
    }
}

/// What led to a change; `None` for a fact that is shown as such.
pub fn change_cause(cause: &ChangeCause, of: &ChangeFacts) -> Option<String> {
    Some(match cause {
        ChangeCause::Store | ChangeCause::Unsync | ChangeCause::Host => return None,
        ChangeCause::FrameBecame => frame_became(of)?,
        ChangeCause::UnsyncNotRecorded => {
            "the event by which its table became unsync is not in the trace".to_owned()
        }
        ChangeCause::FoundByLookup => "the table stays unsync: a lookup found it \
             (kvm_mmu_find_shadow_page), and syncs it first"
            .to_owned(),
        ChangeCause::Cr3Loaded { from, to } => {
            format!("the guest loaded another CR3 ({from} -> {to}): kvm_mmu_sync_roots")
        }
        ChangeCause::SameCr3 => {
            "the CR3 is the same before and after: a TLB flush, a reload of CR3 \
             (kvm_mmu_sync_roots), or a fault that came through an upper table"
                .to_owned()
        }
        ChangeCause::Injected { fault: by } => format!(
            "KVM injected {} into the guest, with P set: it invalidates the address before that",
            fault(by)
        ),
        ChangeCause::GuestInvalidation => {
            "no injected fault on its address followed at once: INVLPG \
             or INVPCID of the guest"
                .to_owned()
        }
        ChangeCause::CopyOnWrite(copied_for) => copied(copied_for, of),
        ChangeCause::WithinFault { fault: by } => format!("on the path of {}", fault(by)),
        ChangeCause::WithoutFault => {
            "no fault on its address stored it: a sync of its table wrote \
             the marker again, or it was mapped ahead"
                .to_owned()
        }
        ChangeCause::PrefetchedAfter { fault: by } => format!("mapped ahead after {}", fault(by)),
        ChangeCause::ReplacedByFrame { fault: by } => {
            format!("{} maps another frame in its place", fault(by))
        }
        ChangeCause::ReplacedByTable { fault: by } => format!(
            "a table takes the large page's place (__link_shadow_page), on the path of {}",
            fault(by)
        ),
        ChangeCause::RmapRecycled { fault: by } => format!(
            "{} mapped the frame once more than KVM keeps track of, so __rmap_add dropped all its \
             entries, the new one too",
            fault(by)
        ),
        ChangeCause::ReadAfterRetry { fault: by } => {
            format!("read again after {}, which KVM gave up", fault(by))
        }
    })
}

fn frame_became(of: &ChangeFacts) -> Option<String> {
    let made = of.frame_became.as_ref()?;
    let what = match made.event {
        PageEvent::Born => "was made to shadow it",
        PageEvent::Sync => "that shadows it is synced: no store may come in between",
        PageEvent::Reused => "that shadows it was found again",
        _ => "that shadows it had an event",
    };
    let (level, spt, seq) = (made.level, made.spt, count(made.seq.0));
    Some(format!("level {level} table {spt} {what} (seq {seq})"))
}

/// What the host copied the frame for, where it did so on a vCPU's own thread.
fn copied(copied_for: &CopyOnWrite, of: &ChangeFacts) -> String {
    let on = format!("on the thread of {} itself", thread(of.row.vcpu));
    match copied_for {
        CopyOnWrite::Store { seq, gpa } => format!(
            "{on}: the host copies its page on write, as KVM emulates a store to gpa {gpa} (seq {})",
            count(seq.0)
        ),
        CopyOnWrite::Fault { fault: by } if by.class == Class::Retried => format!(
            "{on}: the host copies its page on write (or moves it) for {}, which KVM gave up for that",
            fault(by)
        ),
        CopyOnWrite::Fault { fault: by } => format!(
            "{on}: the host copies its page on write, as KVM emulates the store of {}",
            fault(by)
        ),
        CopyOnWrite::Unknown => format!(
            "{on}, as where the host copies a page on write; no fault on this frame that KVM gave up \
             or emulated follows at once"
        ),
    }
}
