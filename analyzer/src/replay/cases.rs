//! Replay of short stories whose end is known.

use events::{Cause, Gfn, Gva, Hpa, PageEvent, Role, Seq, Spte};
use trace::Record;

use super::{
    AnomalyKind, KeyframeUse, VmReplay,
    story::{EMPTY, PRESENT, Story, kinds},
};

/// The VM runs while its first keyframe is copied: what is recorded between the copy of a page and
/// the mark is kept.
#[test]
fn a_running_vm_begins_with_its_first_keyframe() {
    let vm = Story::default()
        .entry(
            Cause::Other,
            0x5008,
            1,
            Some(PRESENT | 0x9000),
            PRESENT | 0x9000,
        )
        .page(PageEvent::Zapped, 0x7000, 1, 3)
        .copy(0, 0x4000, 2, &[(0, PRESENT | 0x5000)])
        .copy(
            0,
            0x5000,
            1,
            &[(1, PRESENT | 0x9000), (2, PRESENT | 0xa000)],
        )
        .copy(0, 0x6000, 1, &[(0, PRESENT | 0xb000)])
        .entry(Cause::HostUnmap, 0x5008, 1, Some(PRESENT | 0x9000), EMPTY.0)
        .page(PageEvent::Zapped, 0x6000, 1, 1)
        .mark(0, 3)
        .copy(1, 0x4000, 2, &[(0, PRESENT | 0x5000)])
        .copy(1, 0x5000, 1, &[(2, PRESENT | 0xa000)])
        .mark(1, 2)
        .replay(false);
    assert_eq!(kinds(&vm), []);
    let used: Vec<_> = vm.checks().kept().iter().map(|check| check.used).collect();
    assert_eq!(used, [KeyframeUse::Set, KeyframeUse::Verified]);
    assert!(
        vm.checks()
            .kept()
            .iter()
            .all(|check| check.drift.is_exact())
    );
}

/// Without its first keyframe nothing is known of a VM, so nothing can be impossible.
#[test]
fn before_the_first_keyframe_an_unknown_page_is_no_anomaly() {
    let story = Story::default()
        .entry(Cause::Other, 0x5008, 1, None, PRESENT | 0x9000)
        .page(PageEvent::Sync, 0x7000, 1, 3);
    assert_eq!(kinds(&story.replay(false)), []);
    let known = [AnomalyKind::EntryInUnknownPage, AnomalyKind::UnknownPage];
    assert_eq!(kinds(&story.replay(true)), known);
}

/// An emulated store clears the link; the child lives on, without a parent, and is linked again.
#[test]
fn a_cleared_link_leaves_the_child_without_a_parent() {
    let link = PRESENT | 0x5027;
    let story = Story::default()
        .page(PageEvent::Born, 0x4000, 2, 1)
        .page(PageEvent::Born, 0x5000, 1, 2)
        .entry(Cause::Link, 0x4010, 2, Some(0), link)
        .entry(Cause::GuestWrite, 0x4010, 2, Some(link), EMPTY.0);
    let vm = story.replay(true);
    assert_eq!(kinds(&vm), []);
    assert_eq!(vm.tables().parents(Hpa(0x5000)), []);
    assert_eq!(vm.tables().totals().links, 0);
    let story = story
        .page(PageEvent::Reused, 0x5000, 1, 2)
        .entry(Cause::Link, 0x4018, 2, Some(EMPTY.0), link)
        .page(PageEvent::Zapped, 0x5000, 1, 2);
    let vm = story.replay(true);
    assert_eq!(kinds(&vm), []);
    assert_eq!(vm.tables().entry(Hpa(0x4018)), Some(Spte(0)));
}

/// A leaf that loses only a right keeps the frame that another record gave.
#[test]
fn the_value_before_is_checked_beyond_accessed_and_dirty() {
    let leaf = PRESENT | 1 << 10 | 0x9003;
    let accessed = leaf | 0x60;
    let story = |old: u64, new: u64| {
        Story::default()
            .page(PageEvent::Born, 0x5000, 1, 2)
            .entry(Cause::Other, 0x5000, 1, Some(EMPTY.0), leaf)
            .entry(Cause::DirtyLog, 0x5000, 1, Some(old), new)
            .replay(true)
    };
    assert_eq!(kinds(&story(accessed, accessed & !2)), []);
    let unseen = story(PRESENT | 0xa003, EMPTY.0);
    assert_eq!(kinds(&unseen), [AnomalyKind::OtherOld]);
    assert_eq!(unseen.anomalies().first()[0].seq, Seq(2));
    assert_eq!(unseen.tables().entry(Hpa(0x5000)), Some(EMPTY));
}

/// A rule of replay may do what a record then repeats: making a page protects its frame.
#[test]
fn a_change_that_a_rule_foresaw_is_no_anomaly() {
    let leaf = PRESENT | 1 << 10 | 0x9003;
    let protected = leaf & !(1 << 10 | 2);
    let vm = Story::default()
        .page(PageEvent::Born, 0x5000, 1, 2)
        .entry(Cause::Other, 0x5000, 1, None, protected)
        .entry(Cause::WriteProtect, 0x5000, 1, Some(leaf), protected)
        .replay(true);
    assert_eq!(kinds(&vm), []);
}

/// A guest without paging runs on four PDPTEs that no shadow page holds.
#[test]
fn a_pae_root_is_walked_and_is_no_page() {
    let vm = Story::default()
        .root(0x3000, 3)
        .page(PageEvent::Born, 0x4000, 2, 0)
        .entry(Cause::Reread, 0x3018, 3, None, 0x4001)
        .page(PageEvent::Born, 0x5000, 1, 0)
        .entry(Cause::Link, 0x4000, 2, None, PRESENT | 0x5027)
        .entry(Cause::Other, 0x5008, 1, None, PRESENT | 0x9003)
        .replay(true);
    assert_eq!(kinds(&vm), []);
    let roots = vm.table_roots();
    assert_eq!((roots.shadow, roots.pae), (vec![], vec![Hpa(0x3000)]));
    assert_eq!(roots.orphans, 0);
    let walk = vm.walk(Hpa(0x3000), Gva(0xc000_1234));
    let levels: Vec<_> = walk.steps.iter().map(|step| step.level.0).collect();
    assert_eq!(levels, [3, 2, 1]);
    assert_eq!(walk.mapping.map(|mapping| mapping.pfn.0), Some(9));
    assert_eq!(vm.walk(Hpa(0x3000), Gva(0x1000)).steps.len(), 1);
    let run = vm.ranges().root(Hpa(0x3000)).runs[0];
    assert_eq!((run.gva, run.entries), (Gva(0xc000_1000), 1));
}

/// The address of a PAE root is the same for as long as its vCPU lives.
#[test]
fn a_pae_root_that_is_loaded_again_has_the_entries_that_were_read() {
    let story = Story::default()
        .page(PageEvent::Born, 0x4000, 2, 0)
        .page(PageEvent::Born, 0x5000, 2, 1)
        .pae_root(0x3000, [0x4001, 0, 0, 0x5001]);
    let tables = |vm: &VmReplay| vm.pdptes(Hpa(0x3000)).copied();
    let [first, second] = [Some(Hpa(0x4000)), Some(Hpa(0x5000))];
    let once = story.clone().replay(true);
    assert_eq!(tables(&once), Some([first, None, None, second]));
    let again = story.pae_root(0x3000, [0x5001, 0x4001, 0, 0]).replay(true);
    assert_eq!(tables(&again), Some([second, first, None, None]));
    assert_eq!(kinds(&again), []);
}

/// KVM frees a page that it zapped, and the kernel may give it to a vCPU that comes later.
#[test]
fn a_pae_root_may_be_where_a_shadow_page_was() {
    let vm = Story::default()
        .page(PageEvent::Born, 0x3000, 1, 7)
        .page(PageEvent::Zapped, 0x3000, 1, 7)
        .root(0x3000, 3)
        .page(PageEvent::Born, 0x4000, 2, 0)
        .entry(Cause::Reread, 0x3018, 3, None, 0x4001)
        .replay(true);
    assert_eq!(kinds(&vm), []);
    assert_eq!(vm.table_roots().orphans, 0);
}

/// Without its root, the address of a table of a guest without paging is still known.
#[test]
fn a_direct_table_without_its_pae_root_is_read_by_its_frame() {
    let vm = Story::default()
        .direct(0x4000, 2, 0x4_0000)
        .entry(Cause::Other, 0x4010, 2, None, PRESENT | 1 << 7 | 0x20_0003)
        .replay(true);
    assert_eq!(vm.table_roots().shadow, [Hpa(0x4000)]);
    let mapped = |gva| {
        vm.walk(Hpa(0x4000), Gva(gva))
            .mapping
            .map(|mapping| mapping.pfn.0)
    };
    assert_eq!(mapped(0x4040_1000), Some(0x201));
    assert_eq!(mapped(0x40_1000), None);
    assert_eq!(vm.ranges().root(Hpa(0x4000)).runs[0].gva, Gva(0x4040_0000));
}

/// Zapping an unsync page fires the event of a sync as well (`kvm_unlink_unsync_page`), though
/// nothing is synced and no frame is protected.
#[test]
fn the_sync_within_a_zap_changes_nothing() {
    let leaf = PRESENT | 1 << 10 | 0x9003;
    let mut story = Story::default()
        .page(PageEvent::Born, 0x5000, 1, 2)
        .page(PageEvent::Born, 0x6000, 1, 3)
        .entry(Cause::Other, 0x6000, 1, None, leaf)
        .page(PageEvent::Unsync, 0x5000, 1, 2)
        .page(PageEvent::Zapped, 0x5000, 1, 2)
        .page(PageEvent::Sync, 0x5000, 1, 2);
    for record in &mut story.0 {
        match record {
            Record::Entry(row) => row.gfn = Some(Gfn(2)),
            Record::Page(row) => row.unsync = u8::from(row.event == PageEvent::Zapped),
            _ => {}
        }
    }
    let vm = story.replay(true);
    assert_eq!(kinds(&vm), []);
    assert_eq!(vm.tables().entry(Hpa(0x6000)), Some(Spte(leaf)));
    assert_eq!(vm.tables().totals().unsync, 0);
}

/// A root in use is zapped, and its entries are cleared one by one.
#[test]
fn entries_cleared_within_a_zap_are_no_anomaly() {
    let link = PRESENT | 0x5027;
    let story = Story::default()
        .page(PageEvent::Born, 0x4000, 4, 1)
        .page(PageEvent::Born, 0x5000, 3, 2)
        .entry(Cause::Link, 0x4010, 4, None, link)
        .page(PageEvent::Zapped, 0x4000, 4, 1)
        .entry(Cause::Other, 0x4010, 4, Some(link), 0);
    assert_eq!(kinds(&story.replay(true)), []);
    let story = story.entry(Cause::Other, 0x4010, 4, None, link);
    assert_eq!(kinds(&story.replay(true)), [AnomalyKind::EntryInZappedPage]);
}

/// A root that was zapped before the recording began is zapped once more when it is freed.
#[test]
fn the_second_zap_of_a_root_in_use_is_no_anomaly() {
    let mut story = Story::default().mark(0, 0);
    let seq = story.seq();
    story = story.page(PageEvent::Zapped, 0x4000, 4, 1);
    if let Some(Record::Page(row)) = story.0.get_mut(seq.0 as usize) {
        row.role = Role(1 << 8);
    }
    assert_eq!(kinds(&story.replay(false)), []);
}

/// The records of a replaced child are lost: the keyframe sets the link, and the next one finds it.
#[test]
fn a_keyframe_mends_a_link_to_a_page_that_is_gone() {
    let (old, new) = (PRESENT | 0x5027, PRESENT | 0x6027);
    let vm = Story::default()
        .page(PageEvent::Born, 0x4000, 2, 1)
        .page(PageEvent::Born, 0x5000, 1, 1)
        .entry(Cause::Link, 0x4010, 2, None, old)
        .copy(0, 0x4000, 2, &[(2, new)])
        .copy(0, 0x6000, 1, &[])
        .mark(0, 2)
        .copy(1, 0x4000, 2, &[(2, new)])
        .copy(1, 0x6000, 1, &[])
        .mark(1, 2)
        .replay(true);
    let kept = vm.checks().kept().iter();
    let exact: Vec<_> = kept.map(|check| check.drift.is_exact()).collect();
    assert_eq!(exact, [false, true]);
    assert_eq!(vm.tables().entry(Hpa(0x4010)), Some(Spte(new)));
}
