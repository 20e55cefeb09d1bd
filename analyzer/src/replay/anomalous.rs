//! Transitions that cannot have been, and those next to them that can.

use events::{Cause, Gfn, Hpa, Level, PageEvent};

use super::{
    AnomalyKind,
    story::{PRESENT, Story, kinds},
};

const WRITABLE: u64 = PRESENT | 1 << 10 | 0x9003;

#[test]
fn a_page_goes_unsync_once_and_only_a_leaf_table() {
    let story = |level, events: &[PageEvent]| {
        let born = Story::default().page(PageEvent::Born, 0x5000, level, 2);
        let story = events
            .iter()
            .fold(born, |story, event| story.page(*event, 0x5000, level, 2));
        kinds(&story.replay(true))
    };
    use PageEvent::{Sync, Unsync};
    assert_eq!(story(1, &[Unsync, Sync, Unsync]), []);
    assert_eq!(story(1, &[Unsync, Unsync]), [AnomalyKind::UnsyncOfUnsync]);
    assert_eq!(story(1, &[Unsync, Sync, Sync]), [AnomalyKind::SyncOfSynced]);
    assert_eq!(story(2, &[Unsync]), [AnomalyKind::UnsyncOfNoLeafTable]);
    let direct = Story::default()
        .direct(0x5000, 1, 2)
        .page(Unsync, 0x5000, 1, 2)
        .replay(true);
    assert_eq!(kinds(&direct), [AnomalyKind::UnsyncOfNoLeafTable]);
}

#[test]
fn a_link_to_a_zapped_table_is_not_one_to_an_unknown_table() {
    let link = PRESENT | 0x5027;
    let story = Story::default().page(PageEvent::Born, 0x4000, 2, 1);
    let unknown = story.entry(Cause::Link, 0x4000, 2, None, link);
    assert_eq!(
        kinds(&unknown.replay(true)),
        [AnomalyKind::LinkToUnknownTable]
    );
    let zapped = Story::default()
        .page(PageEvent::Born, 0x4000, 2, 1)
        .page(PageEvent::Born, 0x5000, 1, 2)
        .page(PageEvent::Zapped, 0x5000, 1, 2)
        .entry(Cause::Link, 0x4000, 2, None, link);
    assert_eq!(
        kinds(&zapped.replay_with(true, true)),
        [AnomalyKind::LinkToZappedTable]
    );
    // Where functions cannot be hooked, a path may be read without the lock.
    assert_eq!(kinds(&zapped.replay(true)), []);
}

#[test]
fn an_entry_in_a_zapped_page_is_an_anomaly_unless_it_was_read_without_the_lock() {
    let zapped = || {
        Story::default()
            .page(PageEvent::Born, 0x5000, 1, 2)
            .page(PageEvent::Zapped, 0x5000, 1, 2)
    };
    let stored = zapped().leaf(Cause::Prefetch, 0x5000, 1, 9, WRITABLE);
    assert_eq!(
        kinds(&stored.replay(true)),
        [AnomalyKind::EntryInZappedPage]
    );
    let fault = zapped().fault(0, 0x5000, 9, WRITABLE);
    assert_eq!(kinds(&fault.replay(true)), [AnomalyKind::EntryInZappedPage]);
    let read = zapped().leaf(Cause::Reread, 0x5000, 1, 9, WRITABLE);
    assert_eq!(kinds(&read.replay(true)), []);
    // The links on a fault's path are read after it was given up.
    let linked = || {
        Story::default()
            .page(PageEvent::Born, 0x4000, 2, 1)
            .page(PageEvent::Born, 0x5000, 1, 2)
            .page(PageEvent::Zapped, 0x4000, 2, 1)
            .entry(Cause::Link, 0x4008, 2, None, PRESENT | 0x5027)
    };
    assert_eq!(kinds(&linked().replay(true)), []);
    assert_eq!(
        kinds(&linked().replay_with(true, true)),
        [AnomalyKind::EntryInZappedPage]
    );
    let compared = zapped().leaf(Cause::Sync, 0x5000, 1, 9, WRITABLE);
    assert_eq!(kinds(&compared.replay(true)), []);
    assert_eq!(
        kinds(&compared.replay_with(true, true)),
        [AnomalyKind::EntryInZappedPage]
    );
}

#[test]
fn a_leaf_for_a_root_without_a_record_is_an_anomaly() {
    let on = |root| {
        Story::default()
            .page(PageEvent::Born, 0x4000, 4, 1)
            .page(PageEvent::Born, 0x5000, 1, 2)
            .root(root, 4)
            .fault(root, 0x5000, 9, WRITABLE)
    };
    assert_eq!(kinds(&on(0x4000).replay(true)), []);
    assert_eq!(kinds(&on(0x7000).replay(true)), [AnomalyKind::UnknownRoot]);
    assert_eq!(kinds(&on(0x7000).replay(false)), []);
    let zapped = Story::default()
        .page(PageEvent::Born, 0x4000, 4, 1)
        .page(PageEvent::Born, 0x5000, 1, 2)
        .root(0x4000, 4)
        .page(PageEvent::Zapped, 0x4000, 4, 1)
        .fault(0x4000, 0x5000, 9, WRITABLE);
    assert_eq!(kinds(&zapped.replay(true)), [], "in use until it is freed");
    let empty = Story::default().root(0x7000, 4);
    assert_eq!(
        kinds(&empty.replay(true)),
        [],
        "of a CR3 that points nowhere"
    );
    let other = Story::default()
        .page(PageEvent::Born, 0x4000, 4, 1)
        .root(0x4000, 5);
    assert_eq!(kinds(&other.replay(true)), [AnomalyKind::OtherLevel]);
}

/// Frame 9 is a table of `level`; then a leaf that maps it is stored.
fn table_mapped(level: u8, cause: Cause, spte: u64) -> Story {
    Story::default()
        .page(PageEvent::Born, 0x4000, level, 9)
        .page(PageEvent::Born, 0x5000, 1, 2)
        .leaf(cause, 0x5000, 1, 9, spte)
}

#[test]
fn only_an_upper_table_is_never_writable() {
    let seen = |level, cause, spte| kinds(&table_mapped(level, cause, spte).replay(true));
    let writable = [AnomalyKind::WritableTable];
    assert_eq!(seen(2, Cause::Prefetch, WRITABLE), writable);
    assert_eq!(seen(2, Cause::Prefetch, WRITABLE & !2), []);
    assert_eq!(seen(1, Cause::Prefetch, WRITABLE), [], "may be unsync");
    assert_eq!(
        seen(2, Cause::Reread, WRITABLE),
        [],
        "read without the lock"
    );
    let found = table_mapped(2, Cause::Prefetch, WRITABLE).replay(false);
    assert_eq!(kinds(&found), [], "it may have two address spaces");
    let zapped = Story::default()
        .page(PageEvent::Born, 0x4000, 2, 9)
        .page(PageEvent::Zapped, 0x4000, 2, 9)
        .page(PageEvent::Born, 0x5000, 1, 2)
        .fault(0, 0x5000, 9, WRITABLE);
    assert_eq!(kinds(&zapped.replay(true)), [], "no table any more");
}

#[test]
fn a_guest_table_is_protected_while_no_leaf_lets_it_be_written() {
    let story = table_mapped(1, Cause::Prefetch, WRITABLE);
    let vm = story.replay(true);
    let table = |vm: &super::VmReplay| vm.tables().guest_table(Hpa(0x4000));
    assert_eq!(
        table(&vm).map(|table| (table.gfn, table.write_protected)),
        Some((Gfn(9), false))
    );
    assert_eq!(
        vm.tables().writable_leaves(Gfn(9)).collect::<Vec<_>>(),
        [Hpa(0x5000)]
    );
    assert_eq!(vm.tables().shadowing(Gfn(9)), [Hpa(0x4000)]);
    let synced = story
        .page(PageEvent::Unsync, 0x4000, 1, 9)
        .page(PageEvent::Sync, 0x4000, 1, 9);
    let vm = synced.replay(true);
    assert_eq!(table(&vm).map(|table| table.write_protected), Some(true));
    let direct = Story::default().direct(0x4000, 1, 9).replay(true);
    assert_eq!(table(&direct), None);
    assert_eq!(direct.tables().shadowing(Gfn(9)), []);
    assert_eq!(
        vm.tables().page(Hpa(0x4000)).map(|page| page.info.level),
        Some(Level(1))
    );
}
