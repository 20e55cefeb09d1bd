//! Ranges that are read again: what was not named is gone.

use events::{Cause, Gfn, Hpa, PageEvent, Spte};
use proptest::prelude::*;

use super::{
    AnomalyKind,
    story::{PRESENT, Story, kinds},
};
use events::HostEvent::{DirtyClear, Reread, Settled, Unmap};
use trace::Record;

const LARGE: u64 = 1 << 7;
const FIRST: u64 = PRESENT | 0x10_0003;
const SECOND: u64 = PRESENT | 0x20_0003;

/// A leaf table at 0x5000 with leaves of frames 0x10 and 0x11, a table above it.
fn two_leaves() -> Story {
    Story::default()
        .page(PageEvent::Born, 0x4000, 2, 1)
        .page(PageEvent::Born, 0x5000, 1, 2)
        .entry(Cause::Link, 0x4000, 2, None, PRESENT | 0x5027)
        .leaf(Cause::Other, 0x5000, 1, 0x10, FIRST)
        .leaf(Cause::Other, 0x5008, 1, 0x11, SECOND)
}

#[test]
fn what_was_not_named_is_gone_and_what_was_is_as_named() {
    let vm = two_leaves()
        .host(Unmap, 0x10, 2)
        .host(Reread, 0x10, 2)
        .leaf(Cause::Reread, 0x5008, 1, 0x11, SECOND & !2)
        .host(Settled, 0x10, 2)
        .replay(true);
    assert_eq!(kinds(&vm), []);
    assert_eq!(vm.tables().entry(Hpa(0x5000)), Some(Spte(0)));
    assert_eq!(vm.tables().entry(Hpa(0x5008)), Some(Spte(SECOND & !2)));
    assert_eq!(vm.tables().totals().leaves, 1);
    assert_eq!(vm.tables().totals().links, 1);
}

/// Number and cause, entry, value before, frame.
type Gone = (u64, Cause, Hpa, Option<Spte>, Option<Gfn>);

/// What a range that is settled takes away.
fn gone(read: Story) -> Vec<Gone> {
    let vm = read.clone().replay(true);
    let settled = read.host(Settled, 0x10, 2);
    let Some(Record::Host(settled)) = settled.0.last() else {
        panic!("an act of the host");
    };
    let gone = vm.gone(settled).into_iter();
    gone.map(|of| (of.seq.0, of.cause, of.sptep, of.old, of.gfn))
        .collect()
}

#[test]
fn what_goes_has_the_number_and_the_cause_of_the_act_that_took_it() {
    let read = |story: Story| {
        let story = story.host(Reread, 0x10, 2);
        story.leaf(Cause::Reread, 0x5008, 1, 0x11, SECOND)
    };
    let first = (Hpa(0x5000), Some(Spte(FIRST)), Some(Gfn(0x10)));
    let of = |seq, cause| [(seq, cause, first.0, first.1, first.2)];
    let unmapped = two_leaves().host(DirtyClear, 0x10, 2).host(Unmap, 0x10, 2);
    assert_eq!(gone(read(unmapped)), of(6, Cause::HostUnmap));
    // An act on another range, one that is settled already, and none.
    assert_eq!(
        gone(read(two_leaves().host(Unmap, 0x10, 1))),
        of(8, Cause::Reread)
    );
    let settled = two_leaves().host(Unmap, 0x10, 2).host(Settled, 0x10, 2);
    assert_eq!(gone(read(settled)), of(9, Cause::Reread));
    assert_eq!(gone(read(two_leaves())), of(7, Cause::Reread));
}

#[test]
fn nothing_is_gone_before_the_range_is_settled_or_outside_of_it() {
    let open = two_leaves().host(Reread, 0x10, 1);
    assert_eq!(open.replay(true).tables().totals().leaves, 2);
    let settled = open.host(Settled, 0x10, 1).replay(true);
    assert_eq!(settled.tables().entry(Hpa(0x5000)), Some(Spte(0)));
    assert_eq!(settled.tables().entry(Hpa(0x5008)), Some(Spte(SECOND)));
}

#[test]
fn a_large_leaf_that_reaches_into_the_range_counts() {
    let story = |first: u64, pages: u64| {
        Story::default()
            .page(PageEvent::Born, 0x4000, 2, 1)
            .leaf(Cause::Other, 0x4008, 2, 0x400, PRESENT | LARGE | 0x40_0003)
            .host(Reread, first, pages)
            .host(Settled, first, pages)
            .replay(true)
            .tables()
            .totals()
            .leaves
    };
    assert_eq!(story(0x5ff, 1), 0);
    assert_eq!(story(0, 0x401), 0);
    assert_eq!(story(0x600, 1), 1);
    assert_eq!(story(0, 0x400), 1);
}

/// Several ranges may be open; a page zapped and made again meanwhile has what was stored since.
#[test]
fn a_page_made_again_within_a_range_keeps_its_new_leaf() {
    let vm = two_leaves()
        .host(Reread, 0x10, 2)
        .host(Reread, 0, 0x11)
        .page(PageEvent::Zapped, 0x5000, 1, 2)
        .page(PageEvent::Born, 0x5000, 1, 3)
        .leaf(Cause::Reread, 0x5000, 1, 0x10, FIRST)
        .host(Settled, 0, 0x11)
        .host(Settled, 0x10, 2)
        .replay(true);
    assert_eq!(kinds(&vm), []);
    assert_eq!(vm.tables().entry(Hpa(0x5000)), Some(Spte(FIRST)));
}

#[test]
fn a_range_settled_twice_or_never_read_is_an_anomaly() {
    let twice = two_leaves()
        .host(Reread, 0x10, 2)
        .host(Settled, 0x10, 2)
        .host(Settled, 0x10, 2);
    assert_eq!(kinds(&twice.replay(true)), [AnomalyKind::SettledUnread]);
    let other = two_leaves().host(Reread, 0x10, 2).host(Settled, 0x10, 1);
    assert_eq!(kinds(&other.replay(true)), [AnomalyKind::SettledUnread]);
    assert_eq!(other.replay(true).tables().totals().leaves, 2);
}

proptest! {
    /// However the range is cut, the leaves in it that are not named go, and no others.
    #[test]
    fn settling_clears_the_unnamed_leaves_of_the_range(
        leaves in prop::collection::vec((0..64_u64, any::<bool>()), 1..64),
        first in 0..64_u64,
        pages in prop_oneof![0..70_u64, Just(u64::MAX)],
    ) {
        let mut story = Story::default().page(PageEvent::Born, 0x5000, 1, 1 << 20);
        for (index, (gfn, _)) in (0..).zip(&leaves) {
            story = story.leaf(Cause::Other, 0x5000 + 8 * index, 1, *gfn, FIRST);
        }
        story = story.host(Reread, first, pages);
        for (index, (gfn, _)) in (0..).zip(&leaves).filter(|(_, (_, named))| *named) {
            story = story.leaf(Cause::Reread, 0x5000 + 8 * index, 1, *gfn, FIRST);
        }
        let vm = story.host(Settled, first, pages).replay(true);
        for (index, (gfn, named)) in (0..).zip(leaves) {
            let within = gfn >= first && gfn - first < pages;
            let entry = vm.tables().entry(Hpa(0x5000 + 8 * index));
            prop_assert_eq!(entry, Some(Spte(if within && !named { 0 } else { FIRST })));
        }
        prop_assert_eq!(vm.anomalies().total(), 0);
    }
}
