//! Changes that no tracepoint shows, kept apart from drift.

use events::{Cause, Level, PageEvent, Spte};

use super::{
    DifferenceKind, KeyframeCheck, LateKind,
    story::{PRESENT, Story},
};

const MMU_WRITABLE: u64 = 1 << 10;
const LEAF: u64 = PRESENT | MMU_WRITABLE | 0x9003;
const LINK: u64 = PRESENT | 0x5027;

/// A link and a leaf of frame 9, then a keyframe that shows other ones.
fn story(link: u64, leaf: u64) -> Story {
    Story::default()
        .page(PageEvent::Born, 0x4000, 2, 1)
        .page(PageEvent::Born, 0x5000, 1, 1)
        .entry(Cause::Link, 0x4000, 2, None, LINK)
        .leaf(Cause::Other, 0x5000, 1, 9, LEAF)
        .copy(0, 0x4000, 2, &[(0, link)])
        .copy(0, 0x5000, 1, &[(0, leaf)])
        .mark(0, 2)
}

fn check(story: &Story, sees_every_change: bool) -> KeyframeCheck {
    let vm = story.replay_with(true, sees_every_change);
    vm.checks().kept()[0].clone()
}

/// Drift of entries, and the kinds that are late.
fn seen(link: u64, leaf: u64, sees_every_change: bool) -> (u64, Vec<LateKind>) {
    let check = check(&story(link, leaf), sees_every_change);
    let late = check.late.iter().filter_map(|change| change.late).collect();
    assert_eq!(check.drift.late.total(), check.late.len() as u64);
    (check.drift.entries(), late)
}

#[test]
fn a_leaf_that_went_or_lost_write_access_is_seen_late() {
    assert_eq!(seen(LINK, LEAF, false), (0, vec![]));
    assert_eq!(seen(LINK, 0, false), (0, vec![LateKind::LeafGone]));
    let read_only = seen(LINK, LEAF & !2, false);
    assert_eq!(read_only, (0, vec![LateKind::LeafReadOnly]));
    // Hardware may have set A and D meanwhile.
    let accessed = seen(LINK, LEAF & !2 | 0x60, false);
    assert_eq!(accessed, (0, vec![LateKind::LeafReadOnly]));
}

#[test]
fn what_nothing_silent_explains_is_drift() {
    assert_eq!(seen(0, LEAF, false), (1, vec![]), "a link is gone");
    assert_eq!(seen(LINK, LEAF ^ 0x3000, false), (1, vec![]), "a frame");
    assert_eq!(
        seen(LINK, LEAF & !4 | 4, false),
        (1, vec![]),
        "a right more"
    );
    let protected = LEAF & !(2 | MMU_WRITABLE);
    assert_eq!(
        seen(LINK, protected, false),
        (1, vec![]),
        "replay's own rule"
    );
    assert_eq!(seen(LINK, LEAF & !MMU_WRITABLE, false), (1, vec![]));
}

#[test]
fn nothing_is_late_where_every_change_has_its_record() {
    assert_eq!(seen(LINK, 0, true), (1, vec![]));
    assert_eq!(seen(LINK, LEAF & !2, true), (1, vec![]));
}

/// Nobody knows which frame a leaf of a keyframe maps, so replay cannot protect it.
#[test]
fn a_leaf_of_unknown_frame_may_have_become_a_table() {
    let protected = LEAF & !(2 | MMU_WRITABLE);
    let story = Story::default()
        .copy(0, 0x5000, 1, &[(0, LEAF)])
        .mark(0, 1)
        .page(PageEvent::Born, 0x6000, 1, 9)
        .copy(1, 0x5000, 1, &[(0, protected)])
        .copy(1, 0x6000, 1, &[])
        .mark(1, 2);
    let vm = story.replay(false);
    let late = &vm.checks().kept()[1].late;
    let kinds: Vec<_> = late.iter().filter_map(|change| change.late).collect();
    assert_eq!(kinds, [LateKind::LeafProtected]);
    assert_eq!(vm.checks().drift().of(DifferenceKind::OtherPermission), 0);
}

#[test]
fn what_was_seen_late_is_mended() {
    let vm = story(LINK, 0).replay(true);
    assert_eq!(vm.tables().totals().leaves, 0);
    assert!(vm.checks().drift().is_exact());
    assert_eq!(vm.checks().drift().late.of(LateKind::LeafGone), 1);
}

#[test]
fn a_page_of_another_level_is_drift_of_its_own_kind() {
    let story = Story::default()
        .page(PageEvent::Born, 0x5000, 1, 1)
        .copy(0, 0x5000, 2, &[])
        .mark(0, 1);
    let check = check(&story, false);
    assert_eq!(check.drift.of(DifferenceKind::OtherLevel), 1);
    assert_eq!((check.drift.pages(), check.drift.entries()), (1, 0));
    assert_eq!(check.first[0].level, Level(2));
}

/// The sums hold however many keyframes there are; only details are bounded.
#[test]
fn drift_of_the_last_of_very_many_keyframes_is_counted() {
    let mut story = Story::default().page(PageEvent::Born, 0x5000, 1, 1);
    let many = (1 << 16) + 10;
    for number in 0..many {
        story = story.copy(number, 0x5000, 1, &[]).mark(number, 1);
    }
    let last = story
        .copy(many, 0x5000, 1, &[(0, LEAF)])
        .mark(many, 1)
        .replay(true);
    let checks = last.checks();
    assert_eq!(checks.total(), u64::from(many) + 1);
    assert_eq!(checks.verified(), checks.total());
    assert_eq!(checks.drift().missing_entries, 1);
    let kept = checks.kept().last().map(|check| check.number);
    assert_eq!(kept, Some(many), "its details are kept, too");
    assert_eq!(
        checks.kept().last().map(|check| check.first[0].kernel),
        Some(Spte(LEAF))
    );
}
