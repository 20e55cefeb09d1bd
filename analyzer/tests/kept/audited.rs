//! Each invariant broken in a copy of a recording that the collector really made.
//!
//! The rows of `recordings/*` are read, some are changed, added or taken out, and the trace writer
//! writes them again. The audit of the recordings themselves finds nothing.

use std::path::Path;

use events::{Cause, Class, Gfn, Gpa, HostEvent, Hpa, Level, PageEvent, Seq, Spte};
use serde_json::Value;
use trace::{EntryRow, FaultRow, KeyframeRow, PageRow, WriteRow};

use super::copy::{Copy, audit, of};
use crate::support::{analyzer, recording};

/// What a command prints for people.
fn text(command: &str, path: &Path) -> String {
    let output = analyzer().arg(command).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn is_leaf_table(page: &PageRow) -> bool {
    page.level == Level(1) && page.direct == 0
}

/// An entry stored outside of a fault, with a fault's VM, vCPU and time.
fn entry(by: &FaultRow, seq: Seq, cause: Cause, spte: Spte) -> EntryRow {
    EntryRow {
        seq,
        time_ns: by.time_ns,
        vm: by.vm,
        vcpu: Some(by.vcpu),
        cause,
        sptep: by.sptep.unwrap(),
        spte,
        old: None,
        level: Level(1),
        gfn: None,
    }
}

#[test]
fn the_recordings_are_clean() {
    let names = [
        "alias-lab",
        "boot-lab",
        "demand",
        "dirty-lab",
        "flood-lab",
        "keyframes",
        "lab",
        "loads",
        "loads-lab",
        "roots",
        "unsync",
    ];
    for name in names {
        let (code, json) = audit(&recording(name));
        assert_eq!(
            (code, &json["clean"]),
            (0, &true.into()),
            "{name}: {json:#}"
        );
        for check in json["vms"][0]["checks"].as_array().unwrap() {
            let silent = check["checked"] == 0 && check["result"] != "not_checked";
            assert!(!silent, "{name}: {check}");
        }
    }
}

#[test]
fn the_checks_and_what_they_found_are_listed() {
    insta::assert_snapshot!(text("audit", &recording("boot-lab")));
    let mut copy = Copy::of("lab");
    let at = copy.fault(100, is_leaf_table);
    copy.rows.faults[at].gpa = Some(Gpa(0x7_0000_0000));
    insta::assert_snapshot!(copy.with(|path| text("audit", path)));
}

#[test]
fn verify_fails_and_names_the_audit() {
    let mut copy = Copy::of("lab");
    let at = copy.fault(100, is_leaf_table);
    copy.rows.faults[at].gpa = Some(Gpa(0x7_0000_0000));
    let verified = copy.with(|path| text("verify", path));
    let line = "1 violation of the shadow MMU's invariants";
    assert!(verified.contains(line), "{verified}");
    assert!(verified.starts_with("not exact"), "{verified}");
}

#[test]
fn an_unchanged_copy_is_clean() {
    let mut copy = Copy::of("lab");
    let seq = copy.rows.faults[40].seq;
    copy.make_room(seq);
    copy.take_out(seq);
    let (code, json) = copy.audit();
    assert_eq!(code, 0, "{json:#}");
}

#[test]
fn a_leaf_of_a_direct_page_for_another_frame_is_found() {
    let mut copy = Copy::of("boot-lab");
    let at = copy.fault(5, |page| page.direct == 1);
    let fault = &mut copy.rows.faults[at];
    fault.gpa = fault.gpa.map(|gpa| Gpa(gpa.0 + 0x1000));
    let seq = fault.seq;
    let found = copy.violates("direct_leaf_frame", seq);
    let show = format!("explain --seq {} --vm 0", seq.0);
    assert_eq!(found["show"], show, "the command that shows it");
}

#[test]
fn a_direct_child_below_a_table_of_the_guest_is_found() {
    let mut copy = Copy::of("lab");
    let at = copy.fault(300, is_leaf_table);
    let spt = copy.rows.faults[at].sptep.unwrap().table();
    let first = copy.fault(0, |page| page.spt == spt);
    for page in copy.rows.pages.iter_mut().filter(|page| page.spt == spt) {
        page.direct = 1;
        page.gfn = Gfn(page.gfn.0 & !511);
    }
    let found = copy.violates("child_role", copy.rows.faults[first].seq);
    let expected = found["expected"].as_str().unwrap();
    assert!(expected.contains("shadows the table in gfn"), "{found}");
}

#[test]
fn a_child_that_shadows_another_table_is_found() {
    let mut copy = Copy::of("lab");
    let at = copy.fault(0, is_leaf_table);
    let spt = copy.rows.faults[at].sptep.unwrap().table();
    for page in copy.rows.pages.iter_mut().filter(|page| page.spt == spt) {
        page.gfn.0 += 1;
    }
    copy.violates("child_role", copy.rows.faults[at].seq);
}

#[test]
fn a_child_of_another_level_is_found() {
    let mut copy = Copy::of("lab");
    let spt = copy.table(1).spt;
    let of_it = |page: &&mut PageRow| page.spt == spt;
    let pages = copy.rows.pages.iter_mut();
    pages.filter(of_it).for_each(|page| page.level = Level(2));
    let links = copy.rows.entries.iter();
    let mut links = links.filter(|row| row.cause == Cause::Link && row.spte.child() == spt);
    let link = links.next().expect("a link").seq;
    let found = copy.violates("child_role", link);
    assert_eq!(found["found"], "level 2");
}

#[test]
fn a_wrong_quadrant_is_found() {
    let mut copy = Copy::of("lab");
    let links = copy.rows.entries.iter();
    let odd = |row: &&EntryRow| row.cause == Cause::Link && row.sptep.index() % 2 == 1;
    let link = links.clone().find(odd).expect("a link at an odd place");
    let seq = link.seq;
    let bit = 1 << copy.field("has_4_byte_gpte");
    copy.set_role(bit, |_| true);
    let found = copy.violates("child_role", seq);
    assert_eq!(found["expected"], "quadrant 1");
}

#[test]
fn a_leaf_below_a_zapped_root_is_found() {
    let mut copy = Copy::of("lab");
    let fault = copy.rows.faults[copy.fault(100, is_leaf_table)].clone();
    copy.make_room(fault.seq);
    let root = copy
        .rows
        .pages
        .iter()
        .find(|page| page.spt == fault.root.table());
    let zapped = PageRow {
        seq: fault.seq,
        event: PageEvent::Zapped,
        ..root.expect("the root").clone()
    };
    copy.rows.pages.push(zapped);
    copy.rows.pages.sort_by_key(|page| page.seq);
    copy.violates("invalid_root", Seq(fault.seq.0 + 1));
}

#[test]
fn a_marker_over_a_present_entry_is_found() {
    let mut copy = Copy::of("boot-lab");
    let entries = copy.rows.entries.iter();
    let at = entries.clone().position(|row| row.cause == Cause::Mmio);
    let at = at.expect("a marker");
    let seq = copy.rows.entries[at].seq;
    let is_there = |row: &&FaultRow| row.seq < seq && row.class == Class::Shadow;
    let before = copy.rows.faults.iter().rev().find(is_there).unwrap();
    copy.rows.entries[at].sptep = before.sptep.unwrap();
    copy.violates("mmio_over_present", seq);
}

#[test]
fn a_writable_leaf_of_an_upper_table_is_found() {
    let mut copy = Copy::of("lab");
    let table = copy.table(2);
    let at = copy.fault(100, is_leaf_table);
    let fault = &mut copy.rows.faults[at];
    assert!(fault.spte.unwrap().is_writable());
    fault.gpa = Some(table.gfn.gpa(0));
    copy.violates("writable_table", copy.rows.faults[at].seq);
}

#[test]
fn a_writable_leaf_of_a_synced_leaf_table_is_found() {
    let mut copy = Copy::of("alias-lab");
    let at = copy.fault(100, is_leaf_table);
    let fault = &mut copy.rows.faults[at];
    let spt = fault.sptep.unwrap().table();
    let table = copy.rows.pages.iter().find(|page| page.spt == spt);
    fault.gpa = Some(table.expect("the leaf table").gfn.gpa(0));
    copy.violates("writable_table", copy.rows.faults[at].seq);
}

/// A table of the other address space: the same memory if a leaf of that space maps it, otherwise
/// nothing is known.
#[test]
fn a_writable_leaf_in_another_address_space_is_found_where_it_is_the_same_memory() {
    let mut copy = Copy::of("lab");
    let table = copy.table(2);
    let at = copy.fault(100, is_leaf_table);
    copy.rows.faults[at].gpa = Some(table.gfn.gpa(0));
    let (seq, pfn) = (copy.rows.faults[at].seq, copy.rows.faults[at].spte.unwrap());
    let smm = 1 << copy.field("smm");
    copy.set_role(smm, |spt| spt == table.spt);
    let (_, json) = copy.audit();
    let of_check = of(&json, "writable_table");
    assert_eq!(of_check["violated"], 0, "{of_check:#}");
    let why = of_check["not_checked"].to_string();
    assert!(why.contains("another address space"), "{why}");

    // A leaf of the table's own space, without W, maps the same host frame.
    let own = copy.rows.faults[at].sptep.unwrap().table();
    let other = copy.fault(0, |page| is_leaf_table(page) && page.spt != own);
    let other = copy.rows.faults[other].clone();
    assert!(other.seq < seq, "before the leaf that can write");
    let other_spt = other.sptep.unwrap().table();
    copy.set_role(smm, |spt| spt == other_spt);
    copy.make_room(seq);
    let spte = pfn.without_write();
    let gfn = Some(table.gfn);
    copy.rows.entries.push(EntryRow {
        gfn,
        ..entry(&other, seq, Cause::Other, spte)
    });
    copy.rows.entries.sort_by_key(|row| row.seq);
    copy.violates("writable_table", Seq(seq.0 + 1));
}

#[test]
fn a_leaf_outside_of_every_memslot_is_found() {
    let mut copy = Copy::of("lab");
    let at = copy.fault(100, is_leaf_table);
    copy.rows.faults[at].gpa = Some(Gpa(0x7_0000_0000));
    copy.violates("outside_slot", copy.rows.faults[at].seq);
}

/// The host takes pages away by `act`, a leaf of them stays, and a keyframe shows it.
fn outliving(act: HostEvent) -> (Copy, Seq) {
    let mut copy = Copy::of("loads-lab");
    let entries = copy.rows.entries.iter();
    let removed = |row: &&EntryRow| row.cause == Cause::HostUnmap && row.old.is_some();
    let removed = entries.clone().find(removed).expect("an unmap").clone();
    let unmap = copy.rows.host.iter_mut().rev();
    let mut unmap = unmap.filter(|row| row.event == HostEvent::Unmap && row.seq < removed.seq);
    unmap.next().expect("its act").event = act;
    let place = removed.sptep;
    let faults = copy.rows.faults.iter().map(|row| (row.sptep, row.seq));
    let entries = copy.rows.entries.iter();
    let named = faults.chain(entries.map(|row| (Some(row.sptep), row.seq)));
    let later = named.filter(|(at, seq)| *at == Some(place) && *seq > removed.seq);
    let mut later: Vec<_> = later.map(|(_, seq)| seq).collect();
    later.sort_unstable();
    let mark = copy
        .rows
        .marks
        .iter()
        .rev()
        .find(|row| row.keyframe.is_some());
    let mark = mark.expect("a keyframe").clone();
    let copies = copy.rows.keyframes.iter_mut();
    let of_it =
        copies.filter(|row| row.spt == place.table() && Some(row.keyframe) == mark.keyframe);
    let mut of_it = of_it.filter(|row| row.index == Some(place.index()));
    of_it.next().expect("its entry").spte = removed.old;
    for seq in later.iter().rev().chain([&removed.seq]) {
        copy.take_out(*seq);
    }
    let seq = Seq(mark.seq.0 - later.len() as u64 - 1);
    (copy, seq)
}

#[test]
fn a_leaf_that_outlives_an_act_of_the_host_is_found() {
    // The host's page is unmapped; the memslot is deleted; a range of frames is zapped.
    for act in [HostEvent::Unmap, HostEvent::FlushSlot, HostEvent::ZapRange] {
        let (copy, seq) = outliving(act);
        let found = copy.violates("stale_leaf", seq);
        assert_eq!(found["in_keyframe"], true, "{act:?}");
        let expected = found["expected"].as_str().unwrap();
        assert!(expected.contains(act.name()), "{act:?}: {expected}");
        let show = found["show"].as_str().unwrap();
        assert!(show.starts_with("table --seq"), "{show}");
    }
}

/// With or without an INVLPG after it.
#[test]
fn a_leaf_that_outlives_the_guests_store_is_found() {
    let mut copy = Copy::of("loads-lab");
    let marks = copy.rows.marks.iter().rev();
    let mark = marks.clone().find(|row| row.keyframe.is_some());
    let mark = mark.expect("a keyframe").clone();
    let of_it = |row: &&KeyframeRow| Some(row.keyframe) == mark.keyframe;
    let copies = copy.rows.keyframes.iter().filter(of_it);
    let first = copies.clone().map(|row| row.seq).min().expect("copies");
    let is_leaf = |row: &&KeyframeRow| {
        let leaf = row.spte.is_some_and(|spte| spte.is_leaf(row.level));
        leaf && row.level == Level(1) && row.direct == 0 && row.unsync == 0
    };
    let leaf = copies.clone().find(is_leaf).expect("a leaf").clone();
    let fault = copy.rows.faults.last().expect("a fault").clone();
    copy.make_room(first);
    copy.rows.writes.push(WriteRow {
        seq: first,
        time_ns: leaf.time_ns,
        vm: leaf.vm,
        vcpu: fault.vcpu,
        gpa: Gpa(leaf.gfn.0 << 12 | u64::from(leaf.index.expect("an entry")) << 3),
        bytes: 8,
        value: 0,
    });
    let found = copy.violates("stale_leaf", Seq(mark.seq.0 + 1));
    let expected = found["expected"].as_str().expect("words");
    assert!(expected.contains("guest_store"), "{found:#}");
}

/// An act between the copies of a keyframe and its mark may come after the copy of its leaves.
#[test]
fn a_leaf_of_an_act_within_the_keyframe_is_left_for_the_next_one() {
    let (mut copy, mark) = outliving(HostEvent::Unmap);
    let acts = copy.rows.host.iter();
    let mut acts = acts.filter(|row| row.event == HostEvent::Unmap);
    let act = acts.next().expect("an unmap").clone();
    copy.make_room(mark);
    copy.rows.host.push(trace::HostRow {
        seq: mark,
        gfn: Gfn(0),
        pages: 1 << 30,
        ..act
    });
    copy.rows.host.sort_by_key(|row| row.seq);
    let (_, json) = copy.audit();
    let found = of(&json, "stale_leaf");
    assert_eq!(found["violated"], 0, "{found:#}");
    let why = found["not_checked"].to_string();
    assert!(why.contains("no keyframe follows"), "{why}");
}

/// The guest's table is synced, so a store to it had to remove the leaf.
#[test]
fn a_stale_leaf_that_a_fault_replaces_is_found() {
    let mut copy = Copy::of("alias-lab");
    let fault = copy.rows.faults[copy.fault(100, is_leaf_table)].clone();
    copy.make_room(fault.seq);
    copy.make_room(fault.seq);
    let stale = Spte(fault.spte.unwrap().0 + 0x1000);
    let gfn = fault.gpa.map(|gpa| Gfn(gpa.gfn().0 + 1));
    copy.rows.entries.push(EntryRow {
        gfn,
        ..entry(&fault, fault.seq, Cause::Other, stale)
    });
    let drop = Seq(fault.seq.0 + 1);
    copy.rows
        .entries
        .push(entry(&fault, drop, Cause::Fault, Spte(0)));
    copy.rows.entries.sort_by_key(|row| row.seq);
    copy.violates("stale_leaf", Seq(fault.seq.0 + 2));
}

/// Linux 6.1 zaps all pages. If one stays, the others were not meant to go. A deletion of a memslot
/// and the pages that it zaps, without the last of them.
fn deletion() -> (Copy, trace::HostRow, Vec<PageRow>) {
    let mut copy = Copy::of("boot-lab");
    let zapped = |flush: &trace::HostRow| -> Vec<PageRow> {
        let end = copy.rows.host.iter().map(|row| row.seq);
        let end = end.filter(|seq| *seq > flush.seq).min();
        let pages = copy.rows.pages.iter().filter(|page| {
            page.event == PageEvent::Zapped
                && page.vcpu == flush.vcpu
                && page.seq > flush.seq
                && end.is_none_or(|end| page.seq < end)
        });
        pages.cloned().collect()
    };
    let flushes = copy.rows.host.iter();
    let flushes = flushes.filter(|row| row.event == HostEvent::FlushSlot);
    let mut flushes = flushes.map(|flush| (flush.clone(), zapped(flush)));
    let found = flushes.find(|(_, pages)| pages.len() > 2);
    let (flush, mut pages) = found.expect("a deletion that zaps pages");
    copy.take_out(pages.pop().unwrap().seq);
    (copy, flush, pages)
}

/// Violations of one deletion: the page that stays makes those of later ones, too.
fn of_deletion(check: &Value, flush: Seq) -> usize {
    let of = format!("by the deletion of seq {}", flush.0);
    let found = check["violations"].as_array().unwrap().iter();
    let found = found.filter_map(|violation| violation["found"].as_str());
    found.filter(|found| found.ends_with(&of)).count()
}

#[test]
fn pages_outside_of_the_deleted_memslot_that_are_zapped_are_found() {
    let (copy, flush, pages) = deletion();
    let (code, json) = copy.audit();
    let found = of(&json, "zap_outside_slot");
    assert_eq!(
        (code, &found["result"]),
        (1, &"violated".into()),
        "{found:#}"
    );
    assert!(of_deletion(found, flush.seq) > 1, "{found:#}");
    let first = &found["violations"][0];
    assert_eq!(first["place"], pages[0].spt.to_string(), "{first:#}");
}

/// `mmu_zap_unsync_children`: they go with the upper table above them.
#[test]
fn unsync_pages_outside_of_the_deleted_memslot_may_go() {
    let (mut copy, flush, pages) = deletion();
    for row in &mut copy.rows.pages {
        if pages.iter().any(|page| page.seq == row.seq) {
            (row.unsync, row.direct) = (1, 0);
        }
    }
    let (_, json) = copy.audit();
    let found = of(&json, "zap_outside_slot");
    assert_eq!(of_deletion(found, flush.seq), 0, "{found:#}");
    let why = found["not_checked"].to_string();
    assert!(why.contains("unsync"), "{why}");
}

/// The thread of the deletion does something for the guest: what it zaps then is no part of it.
#[test]
fn pages_zapped_after_the_deletion_are_no_part_of_it() {
    let (mut copy, flush, _) = deletion();
    let (seq, fault) = (Seq(flush.seq.0 + 1), copy.rows.faults[0].clone());
    copy.make_room(seq);
    copy.rows.entries.push(EntryRow {
        vcpu: flush.vcpu,
        sptep: Hpa(0x1000),
        ..entry(&fault, seq, Cause::GuestWrite, Spte(0))
    });
    copy.rows.entries.sort_by_key(|row| row.seq);
    let (_, json) = copy.audit();
    let found = of(&json, "zap_outside_slot");
    assert_eq!(of_deletion(found, flush.seq), 0, "{found:#}");
}

/// KVM prepares the zap of a root in use, and once more when its last user leaves it.
#[test]
fn a_page_that_is_zapped_twice_is_found_once() {
    let (mut copy, _, pages) = deletion();
    let violated = |copy: &Copy| of(&copy.audit().1, "zap_outside_slot")["violated"].clone();
    let before = violated(&copy);
    let again = Seq(pages[0].seq.0 + 1);
    copy.make_room(again);
    copy.rows.pages.push(PageRow {
        seq: again,
        ..pages[0].clone()
    });
    copy.rows.pages.sort_by_key(|row| row.seq);
    assert_eq!(violated(&copy), before);
}

/// What looks like a marker in a page that nothing has named may be a PDPTE.
#[test]
fn a_marker_in_an_unknown_table_is_no_marker() {
    let mut copy = Copy::of("boot-lab");
    let checked = |copy: &Copy| {
        let json = copy.audit().1;
        let found = of(&json, "mmio_over_present");
        assert!(
            found["not_checked"].as_array().unwrap().is_empty(),
            "{found}"
        );
        found["checked"].as_u64().unwrap()
    };
    let before = checked(&copy);
    let entries = copy.rows.entries.iter_mut();
    let mut markers = entries.filter(|row| row.cause == Cause::Mmio);
    markers.next().expect("a marker").sptep = Hpa(0x1000);
    assert_eq!(checked(&copy), before - 1);
}

/// Where changes have no record, an entry is read after the lock: a child may be another by then.
#[test]
fn links_that_are_read_without_the_lock_are_left_out() {
    let mut copy = Copy::of("lab");
    let mut sees = copy.meta.sees();
    sees.every_change = false;
    copy.meta.sees = Some(sees);
    let (_, json) = copy.audit();
    let why = of(&json, "child_role")["not_checked"].to_string();
    assert!(why.contains("no record of every change"), "{why}");
}

#[test]
fn a_root_that_no_record_has_named_is_left_out() {
    let mut copy = Copy::of("lab");
    let at = copy.fault(100, is_leaf_table);
    copy.rows.faults[at].root = Hpa(0x1000);
    let (_, json) = copy.audit();
    let why = of(&json, "invalid_root")["not_checked"].to_string();
    assert!(why.contains("no record has named the root"), "{why}");
}

/// A violation after a missing record is not proved, until a keyframe has set the tables right.
#[test]
fn a_violation_after_a_missing_record_is_undecided() {
    let mut copy = Copy::of("lab");
    let table = copy.table(2);
    let at = copy.fault(20, is_leaf_table);
    copy.rows.faults[at].gpa = Some(table.gfn.gpa(0));
    let lost = copy.rows.faults[at - 3].seq;
    copy.rows.faults.retain(|row| row.seq != lost);
    let (code, json) = copy.audit();
    let found = of(&json, "writable_table");
    assert_eq!((code, &found["violated"]), (0, &0.into()), "{found:#}");
    assert_eq!(found["undecided"], 1, "{found:#}");
    assert_eq!(found["result"], "undecided");
    let text = copy.with(|path| text("audit", path));
    let verdict = "1 invariant undecided";
    assert!(
        text.contains(verdict) && text.contains("; 1 record lost"),
        "{text}"
    );
}

/// Without the layout of role words, what needs it is left out and named.
#[test]
fn what_a_trace_cannot_decide_is_not_checked() {
    let mut copy = Copy::of("lab");
    copy.meta.role.clear();
    let (code, json) = copy.audit();
    assert_eq!(code, 0);
    let why = of(&json, "invalid_root")["not_checked"].to_string();
    assert!(why.contains("layout of role words"), "{why}");
    let slots = copy.meta.vms.iter_mut();
    slots.for_each(|vm| vm.memslots.clear());
    let (_, json) = copy.audit();
    let found = of(&json, "outside_slot");
    assert_eq!(found["result"], "not_checked");
    let why = found["not_checked"].to_string();
    assert!(why.contains("no memslots"), "{why}");
}
