//! Why addresses fault again: the causes are what the workload did.

use std::{collections::BTreeSet, path::Path};

use events::{HostEvent, PageEvent};
use serde_json::Value;
use trace::{Record, Trace};

use crate::support::{analyze, folder, record};

/// The bills of a recording.
struct Bills {
    summary: Value,
    refaults: Value,
    slots: SlotActs,
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
    fn of(trace: &Path) -> Self {
        let trace = Trace::open(trace).expect("a trace");
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
                    acts.zapping += u64::from(since > 0);
                    acts.zapped += since;
                    since = 0;
                }
                _ => {}
            }
        }
        acts
    }
}

impl Bills {
    fn of(workload: &str, params: &[(&str, u64)]) -> Self {
        let folder = folder();
        let params: Vec<_> = params
            .iter()
            .map(|(name, n)| format!("{name}={n}"))
            .collect();
        let words = params.iter().flat_map(|param| ["-p", param.as_str()]);
        let args: Vec<_> = [workload].into_iter().chain(words).collect();
        let (trace, outcome) = record(&folder, &args);
        assert_eq!(outcome["recorded"]["lost"], 0, "{args:?}");
        let refaults = analyze("refaults", &trace)["vms"][0]["refaults"].clone();
        let summary = analyze("summary", &trace)["vms"][0].clone();
        assert_eq!(
            summary["refaults"]["causes"], refaults["causes"],
            "one bill"
        );
        let slots = SlotActs::of(&trace);
        Self {
            summary,
            refaults,
            slots,
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
        let mut names: Vec<_> = names.filter(|name| *name != "host_unmap").collect();
        names.sort_unstable();
        names
    }

    /// Those that the records prove. On KVM-PVM an act's record follows its effect: what faults
    /// between the two is `not_seen`, which is at most one refault in ten.
    fn seen(&self) -> Vec<&str> {
        let all = self.refaults["totals"]["refaults"].as_u64().expect("a sum");
        let unseen = self.number("not_seen", "refaults");
        assert!(unseen * 10 <= all, "{unseen} of {all} not seen");
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

/// A page that is mapped to another frame loses its entry to the store, unless it has none yet.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_remapped_pages_fault_again_for_the_guests_stores() {
    for (pages, rounds) in [(64, 3), (256, 4)] {
        let bills = Bills::of("remap", &[("pages", pages), ("rounds", rounds)]);
        let expected = pages * (rounds - 1);
        assert_eq!(bills.causes(), ["guest_store"]);
        for what in ["acts", "entries_removed", "refaults"] {
            assert_eq!(bills.number("guest_store", what), expected, "{what}");
        }
    }
}

/// In each round but the last accesses one store unlinks a table, and one of the next zaps the
/// directory: three other tables are unlinked by that.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_flooded_directory_is_walked_again() {
    let rounds = 24;
    let bills = Bills::of("flood", &[("rounds", rounds)]);
    assert_eq!(bills.causes(), ["flooding", "guest_store"]);
    let zaps = bills.counter("mmu_flooded");
    assert_eq!(zaps, rounds - 1);
    assert_eq!(bills.number("flooding", "pages_zapped"), zaps);
    assert_eq!(bills.number("flooding", "refaults"), 3 * zaps);
    assert_eq!(bills.number("guest_store", "entries_removed"), zaps);
    // The second of the two tables that the entry alternates between is new at first.
    assert_eq!(bills.number("guest_store", "refaults"), zaps - 1);
}

/// Each pass faults in all tables again, since there is no room for as many.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_recycled_tables_fault_again_in_each_pass() {
    let (tables, passes) = (160, 3);
    let bills = Bills::of("recycle", &[("tables", tables), ("passes", passes)]);
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
    assert_eq!(refaults + bills.number("host_unmap", "refaults"), all);
}

/// All faults of the slot but the first load and the host's copy of each page are for the log.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_pages_of_a_dirty_log_fault_again_for_it() {
    let pages = 128;
    let bills = Bills::of("dirty", &[("pages", pages), ("passes", 16)]);
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
    let expected = bills.in_range("shadow") - 2 * pages;
    // Outside of the range: the page by which the VMM stops the guest. Its first store copies the
    // page, if the guest has read it before, on a thread whose unmaps KVM-PVM does not show.
    let outside = refaults + unseen - expected;
    assert!(outside <= 1, "{refaults} and {unseen}, not {expected}");
}

/// Every deletion or move that finds pages is an act, and zaps all of them.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_deleted_memslot_makes_everything_fault_again() {
    let bills = Bills::of("memslot", &[("pages", 64), ("passes", 24)]);
    assert_eq!(bills.seen(), ["memslot"]);
    assert!(bills.slots.zapping > 0);
    assert_eq!(bills.number("memslot", "acts"), bills.slots.zapping);
    assert_eq!(bills.number("memslot", "pages_zapped"), bills.slots.zapped);
    assert!(bills.slots.zapped <= bills.counter("mmu_shadow_zapped"));
}

/// The host takes memory away: nothing else does, and all that is gone faults in again.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_reclaimed_pages_fault_again_for_the_host() {
    let pages = 128;
    let bills = Bills::of("reclaim", &[("pages", pages), ("passes", 24)]);
    assert_eq!(bills.seen(), [""; 0]);
    let refaults = bills.number("host_unmap", "refaults");
    let removed = bills.number("host_unmap", "entries_removed");
    assert!(
        refaults > pages && refaults <= removed,
        "{refaults} of {removed}"
    );
    let unmaps = bills.summary["host"]["unmap"].as_u64().expect("acts");
    assert!(
        bills.number("host_unmap", "acts") > unmaps,
        "and the host's copies"
    );
    let totals = &bills.refaults["totals"];
    let unseen = bills.number("not_seen", "refaults");
    assert_eq!(totals["refaults"].as_u64(), Some(refaults + unseen));
}
