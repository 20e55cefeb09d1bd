//! What each class of fault is, in the kernel's words, with what this one shows of it.

use events::{Cause, Class, Gpa, PageEvent, Spte};

use super::{
    By, Explanation, PageChange, Unsynced,
    change_text::{thread, wrap, wrap_at, writer},
    why,
};
use crate::text::{
    flags,
    units::{count, ns, plural},
};

/// Why the fault is of its class.
pub(super) fn why_so(of: &Explanation) -> String {
    let mut out = String::new();
    let words = match of.fault.class {
        Class::Guest => guest(of),
        Class::Shadow => shadow(of),
        Class::WriteProtected => write_protected(of),
        Class::Unsync => "the leaf that KVM was about to make writable maps a guest table of level 1, which \
             is shadowed at level 1 only: mmu_try_to_unsync_pages lets its shadow page go unsync instead of \
             emulating each store. From here on the guest stores to that table without an exit."
            .to_owned(),
        Class::Mmio => mmio(of),
        Class::Fast => fast(of),
        Class::Spurious => spurious(of),
        Class::Retried => retried(of),
    };
    wrap_at(&mut out, &words, 4);
    out
}

fn guest(of: &Explanation) -> String {
    let told = "the walk of the guest's tables (FNAME(walk_addr_generic)) failed, so KVM injected a #PF and \
         touched no shadow entry";
    match of.fault.error_code.is_present() {
        true => format!(
            "{told}; since P is set it brought the address in line first, as hardware drops it from the TLB"
        ),
        false => told.to_owned(),
    }
}

fn shadow(of: &Explanation) -> String {
    let Some(before) = of.before.filter(|before| before.is_shadow_present()) else {
        return match (&of.emptied, of.fault.created) {
            (Some(row), _) if row.cause == Cause::Reread => format!(
                "the shadow entry was missing: it had gone when it was read again (seq {}), as after a fault \
                 that KVM gave up, or an act of the host's",
                count(row.seq.0)
            ),
            (Some(row), _) => format!(
                "the shadow entry was missing: {} had emptied it ({})",
                row.cause.name(),
                why::why(row.cause).clause
            ),
            (None, 1..) => format!(
                "the shadow entry was missing, and so was the way to it: KVM made {}",
                plural(u64::from(of.fault.created), "table")
            ),
            (None, 0) => {
                "the shadow entry was missing: nothing had mapped it in this table".to_owned()
            }
        };
    };
    let by = of
        .writer
        .map(|by| format!(", stored by {}", writer(&by)))
        .unwrap_or_default();
    let now = of.fault.spte.map_or(Spte(0), |spte| spte);
    format!(
        "the entry was there but too weak ({}{by}); it is now {}{}",
        flags::spte(before),
        flags::spte(now),
        lacked(of, before, now),
    )
}

/// Which right was missing.
fn lacked(of: &Explanation, before: Spte, now: Spte) -> &'static str {
    let error = of.fault.error_code;
    if error.is_write() && !before.is_writable() && now.is_writable() {
        let logs = of
            .writer
            .is_some_and(|by| by.by == By::Change(Cause::DirtyLog));
        return match (logs, before.is_mmu_writable()) {
            (true, _) => {
                ": W had been taken for dirty logging, and this store marks the page dirty in the log"
            }
            (false, true) => ": W had been left out, since only loads had come",
            (false, false) => {
                ": W had been left out since the guest's entry was not dirty, or the frame was a table"
            }
        };
    }
    if error.is_fetch() && !before.is_executable() {
        return ": the guest may now execute";
    }
    ""
}

fn write_protected(of: &Explanation) -> String {
    let zapped: Vec<&PageChange> = of.zapped_with_store().collect();
    let mut words = match of.fault.sptep {
        Some(_) => "the leaf had to stay read-only, since a shadow page of the frame forbids to write it: KVM \
             emulated the store (RET_PF_EMULATE, from 6.12 RET_PF_WRITE_PROTECTED)"
            .to_owned(),
        None => tracked(of),
    };
    for page in zapped {
        words.push_str(&match (&of.store, page.stores) {
            (Some(_), 3..) if page.level > 1 => format!(
                ". Write flooding: {} stores since its last use, so KVM zapped level {} table {}, taking the \
                 frame for no table any more",
                page.stores, page.level, page.spt
            ),
            (Some(_), _) => format!(
                ". The store is short or crosses entries, so KVM zapped the whole level {} table {}",
                page.level, page.spt
            ),
            (None, _) => format!(
                ". KVM zapped level {} table {} and let the guest take the store again \
                 (kvm_mmu_unprotect_gfn_and_retry), so nothing was emulated",
                page.level, page.spt
            ),
        });
    }
    words
}

/// Why the store to the frame could not be let through.
fn tracked(of: &Explanation) -> String {
    let upper = of.shadows_of_frame.iter().find(|(_, level, _)| level.0 > 1);
    match (upper, of.shadows_of_frame.is_empty()) {
        (Some((spt, level, _)), _) => format!(
            "the frame is a guest table that level {level} table {spt} shadows, so it is write-tracked \
             (page_fault_handle_page_track): only tables of level 1 may go unsync. KVM emulated the store"
        ),
        (None, false) => "the frame is a guest table of level 1, and it was not let go unsync \
             (mmu_try_to_unsync_pages): KVM emulated the store"
            .to_owned(),
        (None, true) => {
            "KVM emulated the store; by the time of the record no shadow page of the frame is \
             known any more"
                .to_owned()
        }
    }
}

fn mmio(of: &Explanation) -> String {
    match of.fault.error_code.is_reserved() {
        true => "the access hit a marker with reserved bits (RSVD): handle_mmio_page_fault knows it by the \
             marker alone, and KVM emulates the instruction without a walk or a lookup"
            .to_owned(),
        false => "no memslot covers the frame (KVM_PFN_NOSLOT): KVM emulates the instruction, and where \
             mmio_caching is on it leaves a marker (mark_mmio_spte) for the next access"
            .to_owned(),
    }
}

fn fast(of: &Explanation) -> String {
    let by = of
        .writer
        .map(|by| format!("; the entry had been stored by {}", writer(&by)));
    format!(
        "fast_page_fault found a leaf of a direct table that only lacked W, by dirty logging or access \
         tracking, and set it with one cmpxchg, without mmu_lock{}",
        by.unwrap_or_default()
    )
}

fn spurious(of: &Explanation) -> String {
    let told = "RET_PF_SPURIOUS: by the time mmu_lock was held the entry allowed this access, so the same \
         value would have been stored. The CPU had used an older one from its TLB, or another access made it, \
         or an upper table had been zapped and this fault linked a leaf table that had survived with its leaf";
    match of.writer {
        Some(by) => {
            let age = of.fault.time_ns.0.saturating_sub(by.time.0);
            format!(
                "{told}; it was last stored {} before, by {}",
                ns(age),
                writer(&by)
            )
        }
        None => told.to_owned(),
    }
}

fn retried(of: &Explanation) -> String {
    let told = "RET_PF_RETRY: KVM gave the fault up without a store, and the guest takes it again";
    let reread = of
        .reread
        .as_ref()
        .filter(|row| !row.spte.is_shadow_present());
    match (&of.act, reread) {
        (Some(act), _) => format!(
            "{told}; meanwhile {} (gfn {} and {} in all, on {}, seq {}), so the frame that was looked up may \
             not be its frame any more (mmu_invalidate_retry)",
            why::act(act.event),
            act.gfn,
            plural(act.pages, "frame"),
            thread(act.vcpu.map(|vcpu| vcpu.0)),
            count(act.seq.0)
        ),
        (None, Some(row)) => format!(
            "{told}. Read again afterwards (seq {}), its entry is empty: meanwhile the host took the frame away, \
             as the lookup itself does where it copies the host's page on write (mmu_invalidate_retry)",
            count(row.seq.0)
        ),
        (None, None) => format!(
            "{told}. Either an mmu-notifier moved while the frame was looked up (mmu_invalidate_seq), or the \
             guest changed its entry, or the root was dropped, or the frame is still being read in"
        ),
    }
}

/// The shadow pages that a fault let go unsync, as lines.
pub(super) fn unsynced(out: &mut String, of: &Explanation) {
    for page in &of.unsync {
        unsynced_page(out, page, of.gpa());
    }
    if of.fault.class == Class::Unsync && of.unsync.is_empty() {
        out.push_str("   the event of the page that went unsync is not in the trace\n");
    }
}

fn unsynced_page(out: &mut String, page: &Unsynced, gpa: Option<Gpa>) {
    wrap(
        out,
        &format!(
            "the guest's table at gfn {:#x} is writable for the guest now: level {} table {} went unsync \
             (seq {})",
            page.page.gfn,
            page.page.level,
            page.page.spt,
            count(page.period.seq.0)
        ),
    );
    if let Some(gpa) = gpa.filter(|gpa| gpa.gfn().0 == page.page.gfn) {
        let entry = (gpa.0 & 0xfff) / 8;
        out.push_str(&format!(
            "   this store is to its entry {entry}; what it stores is not seen\n"
        ));
    }
    let length = |to: u64| ns(to.saturating_sub(page.period.time.0));
    match (page.period.synced, &page.zapped) {
        (_, Some(row)) => out.push_str(&format!(
            "   {} later it was zapped (seq {})\n",
            length(row.time_ns.0),
            count(row.seq.0)
        )),
        (Some((seq, time, vcpu)), None) => out.push_str(&format!(
            "   {} later {} took it to be synced (kvm_mmu_sync_page, seq {})\n",
            length(time.0),
            thread(vcpu.map(|vcpu| vcpu.0)),
            count(seq.0)
        )),
        (None, None) => {
            out.push_str("   it was not taken out of that state as far as was looked\n")
        }
    }
    for row in &page.changed {
        let old = row
            .old
            .map(|old| format!("{:#x} {} -> ", old.0, flags::spte(old)));
        out.push_str(&format!(
            "      {} entry {}: {}{:#x} {}\n",
            row.cause.name(),
            row.sptep.index(),
            old.unwrap_or_default(),
            row.spte.0,
            flags::spte(row.spte)
        ));
    }
    let total = page.period.by_sync + page.period.by_invlpg;
    let more = total.saturating_sub(page.changed.len() as u64);
    if more > 0 {
        out.push_str(&format!("      and {} more\n", plural(more, "entry")));
    }
    if total == 0 {
        out.push_str("      no shadow entry of it changed by that\n");
    }
}

impl Explanation {
    /// Pages of the frame that were zapped instead of, or by, the emulated store.
    fn zapped_with_store(&self) -> impl Iterator<Item = &PageChange> {
        let frame = self.gpa().map(|gpa| gpa.gfn().0);
        let pages = self.on_the_way.iter().chain(&self.zapped_after);
        pages.filter(move |page| {
            page.event == PageEvent::Zapped && !page.direct && Some(page.gfn) == frame
        })
    }
}
