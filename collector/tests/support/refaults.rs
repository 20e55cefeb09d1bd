//! What the refaults of a workload must be by theory, on the host and in the lab alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use events::{Cause, HostEvent, PageEvent, VcpuId};
use serde_json::Value;
use trace::{Record, Trace};

use super::analyze;

/// A workload, and what must be true of its refaults.
pub struct Case {
    /// As `collector series` takes it.
    pub item: &'static str,
    pub check: fn(&Bills),
}

/// A page that is mapped to another frame loses its entry, unless it has none yet: to the store
/// where KVM emulates it, else to the INVLPG after it.
pub const REMAP: &[Case] = &[
    Case {
        item: "remap:pages=64,rounds=3",
        check: |bills| remap(bills, 64, 3),
    },
    Case {
        item: "remap:pages=256,rounds=4",
        check: |bills| remap(bills, 256, 4),
    },
];

/// In each round but the last accesses one store unlinks a table, and one of the next zaps the
/// directory: three other tables are unlinked by that. Where the guest's kernel runs natively, each
/// round makes the directory read-only for it.
pub const FLOOD: Case = Case {
    item: "flood:rounds=24",
    check: |bills| flood(bills, 24),
};

/// Each pass faults in all tables again, since there is no room for as many.
pub const RECYCLE: Case = Case {
    item: "recycle:tables=160,passes=3",
    check: |bills| recycle(bills, 160, 3),
};

/// All faults of the slot but the first load and the host's copy of each page are for the log.
pub const DIRTY: Case = Case {
    item: "dirty:pages=128,passes=16",
    check: |bills| dirty(bills, 128),
};

/// Every deletion or move that finds pages is an act, and zaps all of them.
pub const MEMSLOT: Case = Case {
    item: "memslot:pages=64,passes=24",
    check: |bills| memslot(bills, 64),
};

/// The host takes memory away: nothing else does, and all that is gone faults in again.
pub const RECLAIM: Case = Case {
    item: "reclaim:pages=128,passes=24",
    check: |bills| reclaim(bills, 128),
};

/// The bills of a recording.
pub struct Bills {
    summary: Value,
    refaults: Value,
    slots: SlotActs,
    /// Where each change has its record.
    unmaps: Option<Unmaps>,
    /// Each change of an entry has a record at the change.
    sees_every_change: bool,
    /// KVM emulates the guest's kernel, so its stores to tables need no write access (KVM-PVM).
    emulates_kernel: bool,
}

/// What the host's unmaps took away, counted from the records alone. On a vCPU's thread they are
/// copies on write.
#[derive(Default)]
struct Unmaps {
    /// Those that removed an entry.
    acts: u64,
    /// Entries that they removed.
    removed: u64,
}

impl Unmaps {
    fn of(trace: &Trace) -> Self {
        // Whether the latest of each thread has removed an entry.
        let mut latest: BTreeMap<Option<VcpuId>, bool> = BTreeMap::new();
        let mut unmaps = Self::default();
        for record in trace.records() {
            match record.expect("a whole trace") {
                Record::Host(row) if row.event == HostEvent::Unmap && row.vcpu.is_none() => {
                    latest.insert(row.vcpu, false);
                }
                Record::Entry(row) if row.cause == Cause::HostUnmap && row.vcpu.is_none() => {
                    let removed = latest.insert(row.vcpu, true).expect("an unmap before");
                    unmaps.acts += u64::from(!removed);
                    unmaps.removed += 1;
                }
                _ => {}
            }
        }
        unmaps
    }
}

/// What memslots that were deleted or moved took away, counted from the records alone.
#[derive(Default)]
struct SlotActs {
    /// Acts that zapped pages. Where the guest did not run since the last one, there is no page.
    zapping: u64,
    /// Pages zapped by anything. A root in use is zapped again when it is freed.
    zapped: u64,
}

impl SlotActs {
    /// The record of an act comes before its zaps, or after them (KVM-PVM). Nothing else zaps.
    fn of(trace: &Trace) -> Self {
        let (mut acts, mut live, mut since) = (Self::default(), BTreeSet::new(), 0);
        for record in trace.records() {
            match record.expect("a whole trace") {
                Record::Page(row) if row.event == PageEvent::Zapped => {
                    since += u64::from(live.remove(&row.spt));
                }
                Record::Page(row) => {
                    live.insert(row.spt);
                }
                Record::Host(row) if row.event == HostEvent::FlushSlot => {
                    acts.add(std::mem::take(&mut since));
                }
                _ => {}
            }
        }
        acts.add(since);
        acts
    }

    fn add(&mut self, zapped: u64) {
        self.zapping += u64::from(zapped > 0);
        self.zapped += zapped;
    }
}

impl Bills {
    pub fn of(trace: &Path) -> Self {
        let refaults = analyze("refaults", trace)["vms"][0]["refaults"].clone();
        let summary = analyze("summary", trace);
        assert_eq!(summary["lost"]["records"], 0, "{summary}");
        let summary = summary["vms"][0].clone();
        assert_eq!(
            summary["refaults"]["causes"], refaults["causes"],
            "one bill"
        );
        let recording = Trace::open(trace).expect("a trace");
        let sees = recording.meta().sees.expect("what it sees");
        Self {
            summary,
            refaults,
            slots: SlotActs::of(&recording),
            unmaps: sees.every_change.then(|| Unmaps::of(&recording)),
            sees_every_change: sees.every_change,
            emulates_kernel: recording.meta().host.hypervisor == "kvm_pvm",
        }
    }

    fn number(&self, cause: &str, what: &str) -> u64 {
        let causes = self.refaults["causes"].as_array().expect("causes");
        let bill = causes.iter().find(|bill| bill["cause"] == cause);
        bill.map_or(0, |bill| bill[what].as_u64().expect("a number"))
    }

    /// The causes with refaults, but for the host's copies of pages that were first read.
    fn causes(&self) -> Vec<&str> {
        let causes = self.refaults["causes"].as_array().expect("causes");
        let with = causes.iter().filter(|bill| bill["refaults"] != 0);
        let names = with.map(|bill| bill["cause"].as_str().expect("a name"));
        let mut names: Vec<_> = names.filter(|name| *name != "copy_on_write").collect();
        names.sort_unstable();
        names
    }

    /// Those that the records prove: all, where each change has its record. On KVM-PVM an act's
    /// record follows its effect: an entry that a vCPU reads again between the two is `not_seen`,
    /// which is at most one refault in a hundred.
    fn seen(&self) -> Vec<&str> {
        let all = self.refaults["totals"]["refaults"].as_u64().expect("a sum");
        let unseen = self.number("not_seen", "refaults");
        let most = if self.sees_every_change { 0 } else { all / 100 };
        assert!(unseen <= most, "{unseen} of {all} not seen");
        let mut causes = self.causes();
        causes.retain(|cause| *cause != "not_seen");
        causes
    }

    fn counter(&self, name: &str) -> u64 {
        let lines = self.summary["reconciliation"].as_array().expect("counters");
        let line = lines.iter().find(|line| line["counter"] == name);
        line.and_then(|line| line["kvm"].as_u64())
            .expect("the counter")
    }

    fn in_range(&self, class: &str) -> u64 {
        self.summary["classes"][class]["in_range"]
            .as_u64()
            .unwrap_or(0)
    }
}

fn remap(bills: &Bills, pages: u64, rounds: u64) {
    let expected = pages * (rounds - 1);
    let cause = match bills.emulates_kernel {
        true => {
            assert_eq!(bills.causes(), ["guest_store"]);
            "guest_store"
        }
        false => {
            assert_eq!(bills.causes(), ["invlpg", "write_protect"]);
            // The kernel's first store to each leaf table after it was shadowed.
            let tables = pages.div_ceil(512);
            assert_eq!(bills.number("write_protect", "refaults"), tables);
            "invlpg"
        }
    };
    for what in ["acts", "entries_removed", "refaults"] {
        assert_eq!(bills.number(cause, what), expected, "{what}");
    }
}

fn flood(bills: &Bills, rounds: u64) {
    let zaps = bills.counter("mmu_flooded");
    assert_eq!(zaps, rounds - 1);
    if bills.emulates_kernel {
        assert_eq!(bills.causes(), ["flooding", "guest_store"]);
    } else {
        assert_eq!(bills.causes(), ["flooding", "guest_store", "write_protect"]);
        // Three stores that KVM emulates, the last of which is the flood (detect_write_flooding),
        // and the one after it, which gets write access back.
        assert_eq!(bills.number("write_protect", "refaults"), 4 * zaps);
    }
    assert_eq!(bills.number("flooding", "pages_zapped"), zaps);
    assert_eq!(bills.number("flooding", "refaults"), 3 * zaps);
    assert_eq!(bills.number("guest_store", "entries_removed"), zaps);
    // The second of the two tables that the entry alternates between is new at first.
    assert_eq!(bills.number("guest_store", "refaults"), zaps - 1);
}

fn recycle(bills: &Bills, tables: u64, passes: u64) {
    assert_eq!(bills.causes(), ["recycling"]);
    let zapped = bills.number("recycling", "pages_zapped");
    assert_eq!(zapped, bills.counter("mmu_recycled"));
    let refaults = bills.number("recycling", "refaults");
    let of_range = bills.in_range("shadow") - tables;
    assert_eq!(of_range, tables * passes);
    assert!(refaults >= of_range, "{refaults}");
    // The rest are pages of the guest's kernel and of its program.
    let all = bills.refaults["totals"]["refaults"]
        .as_u64()
        .expect("a number");
    assert_eq!(refaults + bills.number("copy_on_write", "refaults"), all);
}

fn dirty(bills: &Bills, pages: u64) {
    assert_eq!(bills.seen(), ["dirty_log"]);
    let passes = bills.summary["host"]["dirty_clear"]
        .as_u64()
        .expect("passes");
    let starts = bills.summary["host"]["dirty_start"]
        .as_u64()
        .expect("starts");
    assert!(bills.number("dirty_log", "acts") <= passes + starts);
    let weakened = bills.number("dirty_log", "entries_weakened");
    let refaults = bills.number("dirty_log", "refaults");
    assert!(
        refaults <= weakened && weakened - refaults <= pages,
        "{refaults} {weakened}"
    );
    let unseen = bills.number("not_seen", "refaults");
    assert!(unseen <= 1, "{unseen} refaults without a cause");
    // Each page that is first read is copied at its first store, under a fault that KVM gives up.
    let copies = bills.in_range("retried");
    assert!(copies <= pages, "{copies}");
    let expected = bills.in_range("shadow") - pages - copies;
    // Outside of the range: the page by which the VMM stops the guest. Its first store copies the
    // page, if the guest has read it before, on a thread whose unmaps KVM-PVM does not show.
    let outside = refaults + unseen - expected;
    assert!(outside <= 1, "{refaults} and {unseen}, not {expected}");
}

fn memslot(bills: &Bills, pages: u64) {
    assert_eq!(bills.seen(), ["memslot"]);
    assert!(bills.slots.zapping > 0);
    assert_eq!(bills.number("memslot", "acts"), bills.slots.zapping);
    assert_eq!(bills.number("memslot", "pages_zapped"), bills.slots.zapped);
    assert!(bills.slots.zapped <= bills.counter("mmu_shadow_zapped"));
    // What faults again was taken away with the pages, or is the host's copy of a page.
    let refaults = bills.number("memslot", "refaults");
    let copies = bills.number("copy_on_write", "refaults");
    let all = refaults + copies + bills.number("not_seen", "refaults");
    assert_eq!(bills.refaults["totals"]["refaults"].as_u64(), Some(all));
    assert!(refaults <= bills.number("memslot", "entries_removed"));
    // Each fault on the slot's pages after the first, and those of the guest's own pages.
    let again = bills.in_range("shadow") - pages;
    assert!(
        refaults + copies >= again,
        "{refaults} and {copies}, not {again}"
    );
}

fn reclaim(bills: &Bills, pages: u64) {
    assert_eq!(bills.seen(), ["host_unmap"]);
    let refaults = bills.number("host_unmap", "refaults");
    let removed = bills.number("host_unmap", "entries_removed");
    let copies = bills.number("copy_on_write", "refaults");
    assert!(
        refaults + copies > pages && refaults > 0 && refaults <= removed,
        "{refaults} of {removed}, {copies} copies"
    );
    let unmaps = bills.summary["host"]["unmap"].as_u64().expect("acts");
    let acts = bills.number("host_unmap", "acts");
    if let Some(seen) = &bills.unmaps {
        assert_eq!((acts, removed), (seen.acts, seen.removed));
        assert!(acts <= unmaps, "{acts} of {unmaps}");
    } else {
        assert!(acts <= unmaps, "{acts} of {unmaps}");
    }
    let totals = &bills.refaults["totals"];
    let unseen = bills.number("not_seen", "refaults");
    let all = refaults + copies + unseen;
    assert_eq!(totals["refaults"].as_u64(), Some(all));
}
