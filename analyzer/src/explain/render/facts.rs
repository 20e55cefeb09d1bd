//! The facts that several stories have, as lines.

use events::{Gpte, Spte, TimeNs};
use trace::{EntryRow, HostRow};

use super::lines::Lines;
use crate::{
    explain::{
        facts::{
            GpteSource, GuestEntry, LaterGpte, PageChange, PeriodEnd, Store, Translations,
            UnsyncPeriod, index_of,
        },
        words::{self, bits},
    },
    replay::PageInfo,
    text::{
        flags,
        units::{count, ns, plural, since},
    },
};

/// `0x7c90e67 rwxuADHM`.
pub fn value(spte: Spte) -> String {
    format!("{:#x} {}", spte.0, flags::spte(spte))
}

impl Lines {
    /// A change of an entry.
    pub fn changed(&mut self, indent: usize, row: &EntryRow) {
        let old = row.old.map_or("unknown".to_owned(), value);
        let (level, index, place) = (row.level, row.sptep.index(), row.sptep);
        let (new, cause) = (value(row.spte), row.cause.name());
        let line = format!("level {level} entry {index} at {place}: {old} -> {new} ({cause})");
        self.line(indent, line);
    }

    /// An emulated store after what introduces it, and the entries that it cleared.
    pub fn store(&mut self, indent: usize, intro: &str, store: &Store) {
        let (seq, vcpu) = (count(store.seq.0), store.vcpu.0);
        self.line(indent, format!("{intro} (seq {seq}, vCPU {vcpu}):"));
        self.line(indent + 3, stored(store));
        for row in &store.cleared {
            self.changed(indent + 3, row);
        }
    }

    /// An unsync period; `start_ns` is the first time of the trace.
    pub fn unsync(&mut self, of: &UnsyncPeriod, start_ns: u64) {
        let by = of.fault.as_ref().map(words::fault);
        let by = by.map_or_else(String::new, |by| format!(", by {by}"));
        self.line(
            3,
            format!(
                "level {} table {} (gfn {}) became unsync {} after the start (seq {}){by}",
                of.level,
                of.spt,
                of.gfn,
                since(of.time_ns.0, start_ns),
                count(of.seq.0)
            ),
        );
        let end = |verb: &str, end: &PeriodEnd, function: &str| {
            let (after, thread) = (ns(end.after_ns), words::thread(end.vcpu));
            let seq = count(end.seq.0);
            format!("{after} later {thread} {verb} ({function}seq {seq})")
        };
        self.line(
            6,
            match (&of.zapped, &of.synced) {
                (Some(zapped), _) => end("zapped it", zapped, ""),
                (None, Some(synced)) => end(
                    "took it out of that state to sync it",
                    synced,
                    "kvm_mmu_sync_page, ",
                ),
                (None, None) => "its end is not among the records that were read".to_owned(),
            },
        );
        let (sync, invlpg) = (count(of.changed_by_sync), count(of.changed_by_invlpg));
        self.line(
            6,
            format!("entries changed: {sync} by sync, {invlpg} by INVLPG or an injected fault"),
        );
        for row in &of.changed {
            self.changed(9, row);
        }
        if !of.changed.is_empty() {
            self.more(9, of.changed_total(), of.changed.len());
        }
    }

    /// The addresses that an entry translates.
    pub fn translations(&mut self, indent: usize, of: &Translations) {
        for to in &of.found {
            let cr3 = to.cr3.map(|cr3| format!(" (cr3 {cr3})"));
            let cr3 = cr3.unwrap_or_default();
            let line = format!("translates gva {} from root {}{cr3}", to.gva, to.root);
            self.line(indent, line);
        }
        if of.found.is_empty() {
            self.line(indent, "no root leads to it: it translates no address now");
        }
        if of.more {
            self.line(indent, "and more that are not listed");
        }
    }

    /// The guest's entry; `time` is when it is looked at.
    pub fn guest_entry(&mut self, of: &GuestEntry, time: TimeNs) {
        let (index, gpa) = (of.index, of.gpa);
        self.line(3, format!("the guest's entry {index} at gpa {gpa}:"));
        match &of.known {
            None => self.line(6, "its value was never seen"),
            Some(known) => {
                self.line(6, bits::guest(known.gpte));
                self.line(
                    6,
                    match &known.known_from {
                        GpteSource::Walk(by) => format!("read by {}", words::fault(by)),
                        GpteSource::Store { seq, time_ns } => {
                            let age = ns(time.0.saturating_sub(time_ns.0));
                            format!("stored {age} before (seq {})", count(seq.0))
                        }
                    },
                );
            }
        }
        let before: Option<Gpte> = of.before;
        if let Some(before) = before {
            self.line(6, format!("before that {}", bits::guest(before)));
        }
    }

    /// What a later walk read in the guest's entry.
    pub fn later_gpte(&mut self, of: &LaterGpte) {
        self.line(6, format!("later its value was {}", bits::guest(of.gpte)));
        self.line(6, format!("read by {}", words::fault(&of.fault)));
    }

    /// What the host did, before a change.
    pub fn host(&mut self, of: &HostRow, time: TimeNs) {
        self.line(3, words::kernel::act(of.event));
        let (frames, seq) = (words::frames(of), count(of.seq.0));
        let age = ns(time.0.saturating_sub(of.time_ns.0));
        let thread = words::thread(of.vcpu);
        self.line(
            3,
            format!("{frames}, {age} earlier, on {thread} (seq {seq})"),
        );
    }

    /// An event of a shadow page, and why it was zapped.
    pub fn page(&mut self, of: &PageChange) {
        let row = &of.row;
        let shadows = match row.direct != 0 {
            true => "direct, from",
            false => "shadows",
        };
        let (level, spt, gfn) = (row.level, row.spt, row.gfn);
        let (event, seq) = (words::page_event(row.event), count(row.seq.0));
        let line = format!("level {level} table {spt} ({shadows} gfn {gfn}) {event} (seq {seq})");
        match &of.zapped_by {
            Some(why) => self.line(3, format!("{line}: {}", words::zap_cause(why))),
            None => self.line(3, line),
        }
    }

    /// A shadow page of a guest table that a store concerns.
    pub fn shadow_of(&mut self, of: &PageInfo, store_to: events::Gpa, gpte_bytes: u16) {
        let (gfn, index) = (store_to.gfn(), index_of(store_to, gpte_bytes));
        let (level, spt, state) = (of.level, of.spt, words::table_state(of.unsync));
        let line = format!("gfn {gfn} is a guest table: level {level} table {spt} shadows it");
        self.line(3, format!("{line} ({state}), entry {index}"));
    }
}

/// `gpa 0x214018 = 0x218027 -> 0x219007 (8 bytes)`.
pub fn stored(store: &Store) -> String {
    let before = store.before.map(|before| format!("{before:#x} -> "));
    let (gpa, before, value) = (store.gpa, before.unwrap_or_default(), store.value);
    let bytes = plural(u64::from(store.bytes), "byte");
    format!("gpa {gpa} = {before}{value:#x} ({bytes})")
}
