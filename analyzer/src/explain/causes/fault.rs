//! Why a fault is of its class.

use std::io;

use events::{Cause, Class, HostEvent, PageEvent, Spte};

use crate::{
    explain::{
        facts::{Because, FaultFacts, RefaultFacts, StoredBy, ZapCause},
        words::{self, kernel},
    },
    faults::refuses,
    refaults::RefaultCause,
    text::{
        flags,
        units::{count, ns, plural},
    },
};

/// Bad address.
const EFAULT: u8 = 14;

/// Adds to a fault, which is complete but for that, what led to it.
pub fn of_fault(of: &mut FaultFacts) {
    of.cause = match of.row.class {
        Class::Guest => injected(of),
        Class::Shadow => shadow(of),
        Class::WriteProtected => write_protected(of),
        Class::Unsync => Because::new(
            "became_unsync",
            "the leaf that KVM was about to make writable maps a guest table of level 1, which \
             is shadowed at level 1 only: mmu_try_to_unsync_pages makes its shadow page unsync \
             instead of emulating each store. From here on the guest stores to that table \
             without an exit.",
        ),
        Class::Mmio => mmio(of),
        Class::Fast => fast(of),
        Class::Spurious => spurious(of),
        Class::Retried => retried(of),
        Class::Failed => failed(of),
    };
    if of.row.class == Class::Guest && of.row.gpa.is_none() {
        of.guest_refusal = Some(guest_refusal(of));
    }
    if of.row.class == Class::WriteProtected {
        let gfn = of.row.gpa.map(|gpa| gpa.gfn());
        let store = of.store.as_ref().map(|store| store.seq);
        for page in of.pages.iter_mut().chain(&mut of.zapped_after) {
            let (row, stores) = (&page.row, page.stores_since_use);
            if row.event == PageEvent::Zapped && row.direct == 0 && Some(row.gfn) == gfn {
                let by_store = |seq| ZapCause::of_store(seq, stores, row.level);
                let store = page.store.or(store);
                page.zapped_by = Some(store.map_or(ZapCause::StoreRetried, by_store));
            }
        }
    }
}

fn injected(of: &FaultFacts) -> Because {
    let text = words::of_mode(of.mode).injected;
    match of.row.error_code.is_present() {
        true => Because::new(
            "injected_after_sync",
            format!(
                "{text}; since P is set, KVM synced the address first, as hardware drops it from \
                 the TLB"
            ),
        ),
        false => Because::new("injected", text),
    }
}

fn shadow(of: &FaultFacts) -> Because {
    let Some(before) = of.before.filter(|before| before.is_shadow_present()) else {
        let (kind, why) = missing(of);
        return Because::new(kind, format!("the shadow entry was missing{why}"));
    };
    let now = of.row.spte.unwrap_or_default();
    let by = of.stored_before.as_ref();
    let by = by.map_or_else(String::new, |by| {
        format!(", stored by {}", words::writer(by))
    });
    if !refuses(before, of.row.error_code) {
        return allowed(of, before, now, &by);
    }
    let (kind, lacked) = lacked(of, before, now);
    let (before, now) = (flags::spte(before), flags::spte(now));
    let weakened = of.refault.as_ref().map(|by| {
        let (cause, what, seq) = (by.cause, &by.what, count(by.seq.0));
        format!(" ({cause}: {what}, seq {seq})")
    });
    let weakened = weakened.unwrap_or_default();
    let text = format!(
        "the entry was there but too weak ({before}{by}); it is now {now}{lacked}{weakened}"
    );
    Because::new(kind, text)
}

/// Why KVM stored an entry that allowed the access, as far as the records show.
fn allowed(of: &FaultFacts, before: Spte, now: Spte, by: &str) -> Because {
    let flags = flags::spte(before);
    if let Some(act) = &of.late_act {
        let (what, frames) = (kernel::act(act.event), words::frames(act));
        let seq = count(act.seq.0);
        let text = format!(
            "the host had just changed the entry ({flags}{by}): {what} ({frames}, seq {seq}; where \
             functions cannot be hooked, such an act has its record once it is done)"
        );
        return Because::new("host_acts", text);
    }
    let found = u64::from(of.row.created) + u64::from(of.row.reused);
    if before.pfn() != now.pfn() {
        let frame = before.pfn();
        let text = format!(
            "the entry mapped another frame as far as the records show ({frame}, {flags}{by}); \
             what removed it is not seen"
        );
        return Because::new("other_frame", text);
    }
    if found > 0 {
        let tables = plural(found, "table");
        let text = format!(
            "the entry itself was there and allowed the access ({flags}{by}), but not the whole \
             path to it: KVM linked {tables}"
        );
        return Because::new("path_missing", text);
    }
    if let Some(other) = of.overtaken_by() {
        let (thread, seq) = (words::thread(other.vcpu), count(other.seq.0));
        let text = format!(
            "the entry was missing when the CPU left the guest, but {thread} was faster: it had \
             stored it when KVM came to it (seq {seq}, {flags})"
        );
        return Because::new("overtaken", text);
    }
    let text = format!(
        "as far as the records show, the entry allowed the access already ({flags}{by}): what had \
         taken it away, or a right from it, is not seen"
    );
    Because::new("not_seen", text)
}

/// Why the entry was missing.
fn missing(of: &FaultFacts) -> (&'static str, String) {
    let emptied = of.emptied.as_ref();
    if let Some(by) = &of.refault
        && emptied.is_none_or(|row| row.cause == Cause::Reread)
    {
        let path = match of.row.created {
            0 => String::new(),
            created => {
                let tables = plural(u64::from(created), "table");
                format!("; the path to it was missing too: KVM made {tables}")
            }
        };
        return ("entry_removed", format!(": {}{path}", removed(of, by)));
    }
    match (emptied, of.row.created) {
        (Some(row), _) if row.cause == Cause::Reread => {
            let seq = count(row.seq.0);
            let text = format!(
                ": it was gone when the probes read it again (seq {seq}), as after a fault that \
                 KVM gave up, or after an act of the host"
            );
            ("entry_found_empty", text)
        }
        (Some(row), _) => {
            let (cause, clause) = (row.cause.name(), kernel::why(row.cause).clause);
            let text = format!(": {cause} had emptied it ({clause})");
            ("entry_emptied", text)
        }
        (None, created @ 1..) => {
            let tables = plural(u64::from(created), "table");
            let text = format!(", and so was the path to it: KVM made {tables}");
            ("tables_missing", text)
        }
        (None, 0) => (
            "never_mapped",
            ": nothing had mapped it in this table".to_owned(),
        ),
    }
}

/// What had removed or weakened it.
fn removed(of: &FaultFacts, by: &RefaultFacts) -> String {
    let before = ns(of.row.time_ns.0.saturating_sub(by.time_ns.0));
    let gap = match by.over_gap {
        true => "; records are missing in between, so another act may have done it",
        false => "",
    };
    let (cause, what, seq) = (by.cause, &by.what, count(by.seq.0));
    format!("it was mapped until {before} before ({cause}: {what}, seq {seq}){gap}")
}

/// Which right was missing.
fn lacked(of: &FaultFacts, before: Spte, now: Spte) -> (&'static str, &'static str) {
    let error = of.row.error_code;
    if error.is_write() && !before.is_writable() && now.is_writable() {
        let writer = of.stored_before;
        let by_log = writer.is_some_and(|by| by.by == StoredBy::Cause(Cause::DirtyLog));
        let log = RefaultCause::DirtyLog.name();
        let by_log = by_log || of.refault.as_ref().is_some_and(|by| by.cause == log);
        if let (false, Some(_)) = (by_log, &of.refault) {
            return ("write_removed", ": W had been removed");
        }
        return match (by_log, before.is_mmu_writable()) {
            (true, _) => (
                "write_removed_by_dirty_log",
                ": dirty logging had removed W, and this store marks the page dirty in the log",
            ),
            (false, true) => (
                "write_left_out_after_loads",
                ": KVM had left W out, since only loads had come",
            ),
            (false, false) => (
                "write_left_out",
                ": KVM had left W out, since the guest's entry was not dirty, or the frame was a \
                 table",
            ),
        };
    }
    match error.is_fetch() && !before.is_executable() {
        true => ("execute_missing", ": the guest may now execute"),
        false => ("too_weak", ""),
    }
}

fn write_protected(of: &FaultFacts) -> Because {
    let upper = of.shadows_of_frame.iter().find(|page| page.level.0 > 1);
    match (upper, of.shadows_of_frame.is_empty()) {
        _ if of.row.sptep.is_some() => Because::new(
            "leaf_read_only",
            "the leaf had to stay read-only, since a shadow page of the frame forbids writes: KVM \
             emulated the store (RET_PF_EMULATE, from 6.12 RET_PF_WRITE_PROTECTED)",
        ),
        (Some(page), _) => Because::new(
            "upper_table",
            format!(
                "the frame is a guest table that level {} table {} shadows, so it is \
                 write-tracked (page_fault_handle_page_track): only tables of level 1 may become \
                 unsync. KVM emulated the store",
                page.level, page.spt
            ),
        ),
        (None, false) => Because::new(
            "leaf_table",
            "the frame is a guest table of level 1, and KVM did not make it unsync \
             (mmu_try_to_unsync_pages): KVM emulated the store",
        ),
        (None, true) => Because::new(
            "no_shadow_known",
            "KVM emulated the store; at the time of the record no shadow page of the frame is \
             known",
        ),
    }
}

fn mmio(of: &FaultFacts) -> Because {
    match of.row.error_code.is_reserved() {
        true => Because::new(
            "mmio_marker",
            "the access hit a marker with reserved bits (RSVD): handle_mmio_page_fault \
             recognizes it by the marker alone, and KVM emulates the instruction without a walk \
             or a lookup",
        ),
        false => Because::new(
            "no_memslot",
            "no memslot covers the frame (KVM_PFN_NOSLOT): KVM emulates the instruction, and \
             where mmio_caching is on it leaves a marker (mark_mmio_spte) for the next access",
        ),
    }
}

fn fast(of: &FaultFacts) -> Because {
    let by = of.stored_before.as_ref();
    let by = by.map_or_else(String::new, |by| {
        format!("; the entry was stored by {}", words::writer(by))
    });
    Because::new(
        "write_restored",
        format!(
            "fast_page_fault found a leaf of a direct table that only lacked W, by dirty logging \
             or access tracking, and set it with one cmpxchg, without mmu_lock{by}"
        ),
    )
}

fn spurious(of: &FaultFacts) -> Because {
    let by = of.stored_before.as_ref();
    let by = by.map_or_else(String::new, |by| {
        let age = ns(of.row.time_ns.0.saturating_sub(by.time_ns.0));
        format!(
            "; it was last stored {age} before, by {}",
            words::writer(by)
        )
    });
    Because::new(
        "already_allowed",
        format!(
            "RET_PF_SPURIOUS: when KVM held mmu_lock the entry allowed this access, so the same \
             value would have been stored. The CPU had used an older one from its TLB, or another \
             access made it, or an upper table had been zapped and this fault linked a leaf table \
             that had survived with its leaf{by}"
        ),
    )
}

/// Why KVM gave it up: `is_page_fault_stale`, `mmu_invalidate_retry_gfn`, KVM_MEMSLOT_INVALID.
fn retried(of: &FaultFacts) -> Because {
    let proven = root_zapped(of)
        .or_else(|| host_changed(of))
        .or_else(|| copied(of));
    let likely = || beside(of).or_else(|| found_empty(of));
    let (kind, why) = proven.or_else(likely).unwrap_or_else(|| {
        let why = ". Reason not seen: an mmu-notifier ran while KVM looked the frame up \
                   (mmu_invalidate_seq), or the guest changed its entry, or the root or the memslot \
                   was dropped, or the frame is still being read in";
        ("not_seen", why.to_owned())
    });
    let text =
        "RET_PF_RETRY: KVM gave the fault up without a store, and the guest repeats the access";
    Because::new(kind, format!("{text}{why}"))
}

fn root_zapped(of: &FaultFacts) -> Option<(&'static str, String)> {
    let zap = of.root_zapped.as_ref()?;
    let (thread, seq) = (words::thread(zap.vcpu), count(zap.seq.0));
    let why = format!(
        "; meanwhile {thread} zapped the root {} that it ran on (seq {seq}): an obsolete root \
         (is_page_fault_stale)",
        zap.spt
    );
    Some(("root_obsolete", why))
}

fn copied(of: &FaultFacts) -> Option<(&'static str, String)> {
    let seq = count(of.invalidated_by_itself?.seq.0);
    let why = format!(
        "; on its own thread the host took a frame away meanwhile (host_unmap, seq {seq}), as KVM's \
         lookup makes it do where the host copies the page on write: the frame that KVM looked up \
         may not be its frame any more (mmu_invalidate_retry)"
    );
    Some(("copied_by_lookup", why))
}

fn host_changed(of: &FaultFacts) -> Option<(&'static str, String)> {
    let act = of.host.as_ref()?;
    let (what, frames) = (kernel::act(act.event), words::frames(act));
    let (thread, seq) = (words::thread(act.vcpu), count(act.seq.0));
    let (kind, so) = match act.event {
        HostEvent::FlushSlot => (
            "memslot_invalid",
            "so the slot was invalid until the change was done (KVM_MEMSLOT_INVALID)",
        ),
        _ => (
            "host_changed",
            "so the frame that KVM looked up may not be its frame any more (mmu_invalidate_retry)",
        ),
    };
    let why = format!("; meanwhile {what} ({frames}, on {thread}, seq {seq}), {so}");
    Some((kind, why))
}

/// An invalidation of any frame makes KVM give up, if it ends between KVM's lookup of the frame and
/// `mmu_lock`.
fn beside(of: &FaultFacts) -> Option<(&'static str, String)> {
    let other = of.invalidated_beside?;
    let (thread, seq) = (words::thread(Some(other.vcpu)), count(other.seq.0));
    let length = ns(other.until_ns.0.saturating_sub(other.from_ns.0));
    let why = format!(
        ". Its reason is not seen for certain, but on {thread} the host took a frame away \
         (host_unmap, seq {seq}) within {length} that this fault overlaps: KVM gives up whatever it \
         looked up while such an invalidation ended (mmu_invalidate_seq)"
    );
    Some(("invalidated_beside", why))
}

/// The CPU had found the entry present.
fn found_empty(of: &FaultFacts) -> Option<(&'static str, String)> {
    let read = of.read_again.as_ref()?;
    if read.spte.is_shadow_present() || !of.row.error_code.is_present() {
        return None;
    }
    let seq = count(read.seq.0);
    let why = format!(
        ". Its entry was present when the CPU took the fault, and is empty when read again \
         afterwards (seq {seq}): the host unmapped the frame, most likely within the lookup, where \
         it copies its page on write (mmu_invalidate_retry)"
    );
    Some(("frame_unmapped", why))
}

fn failed(of: &FaultFacts) -> Because {
    let error = match of.row.errno {
        Some(errno) => io::Error::from_raw_os_error(errno.into()).to_string(),
        None => "not recorded".to_owned(),
    };
    let text = match of.row.errno {
        Some(EFAULT) => {
            ". Which reason it had is not recorded. Most often the VMM's memory at the HVA of this \
             address cannot be used as the access asks: not mapped, PROT_NONE, read-only, or past \
             the end of its file (kvm_handle_error_pfn). With guest_memfd the frame may also be \
             private where the access is shared, or the other way round \
             (kvm_mmu_prepare_memory_fault_exit). The guest meets the same fault as soon as the \
             VMM calls KVM_RUN again"
        }
        _ => "",
    };
    Because::new("kvm_run_failed", format!("KVM_RUN returned: {error}{text}"))
}

/// Why the guest's tables give no GPA.
fn guest_refusal(of: &FaultFacts) -> Because {
    let error = of.row.error_code;
    let Some(step) = of.guest_walk.last() else {
        return Because::new("not_recorded", "refused by the guest's tables");
    };
    let (kind, what) = if !step.gpte.is_present() {
        ("not_present", "not present")
    } else if error.is_write() && !step.gpte.is_writable() {
        ("not_writable", "not writable")
    } else if error.is_user() && !step.gpte.is_user() {
        ("not_user", "not for user mode")
    } else {
        return Because::new("rights", "the rights of the path refuse the access");
    };
    Because::new(kind, format!("{what} at level {}", step.level))
}
