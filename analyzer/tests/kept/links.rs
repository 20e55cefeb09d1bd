//! A page that does not fit to the entry that points to it, or to the guest's tables: each rule
//! broken in a copy of a recording, by one page's rows.

use events::{Cause, Class, Gfn, Hpa, Level, PageEvent, Role, Seq};
use trace::{FaultRow, PageRow};

use super::copy::Copy;

/// The latest row of a page before a record.
fn page_at(copy: &Copy, spt: Hpa, before: Seq) -> Option<usize> {
    let pages = copy.rows.pages.iter().enumerate();
    let of_it = pages.filter(|(_, page)| page.spt == spt && page.seq < before);
    let latest = of_it.max_by_key(|(_, page)| page.seq);
    let there = latest.filter(|(_, page)| page.event != PageEvent::Zapped);
    there.map(|(at, _)| at)
}

/// The first link of a parent and a child that fit: the child's row, and the link's number.
fn link(copy: &Copy, fits: impl Fn(&PageRow, &PageRow) -> bool) -> (usize, Seq) {
    let links = copy.rows.entries.iter();
    let mut found = links
        .filter(|row| row.cause == Cause::Link)
        .filter_map(|row| {
            let parent = page_at(copy, row.sptep.table(), row.seq)?;
            let child = page_at(copy, row.spte.child(), row.seq)?;
            fits(&copy.rows.pages[parent], &copy.rows.pages[child]).then_some((child, row.seq))
        });
    found.next().expect("such a link")
}

/// The page below an entry of level 2 for a large page of the guest, and a fault in it.
fn below_a_large_page(copy: &Copy) -> (usize, Seq) {
    let large = |row: &&FaultRow| {
        let is_large = row.gpte1.is_none() && row.gpte2.is_some_and(|gpte| gpte.is_large());
        row.class == Class::Shadow && is_large
    };
    let mut faults = copy.rows.faults.iter().filter(large).filter_map(|row| {
        let page = page_at(copy, row.sptep?.table(), row.seq)?;
        let row_of = &copy.rows.pages[page];
        (row_of.level == Level(1) && row_of.direct == 1).then_some((page, row.seq))
    });
    faults.next().expect("a fault in a large page")
}

/// What is wrong: the recording, which page, its change, and the rule's words.
type Case = (
    &'static str,
    fn(&Copy) -> (usize, Seq),
    fn(&mut PageRow),
    &'static str,
);

fn shadowing(page: &mut PageRow) {
    page.direct = 0;
}

/// As far as the next page of its level.
fn another_frame(page: &mut PageRow) {
    page.gfn = Gfn(page.gfn.0 + 512);
}

#[test]
fn a_wrong_child_is_found() {
    let below_direct = |copy: &Copy| link(copy, |of, child| of.direct == 1 && child.direct == 1);
    let below_table = |copy: &Copy| link(copy, |of, child| of.direct == 0 && child.direct == 1);
    let cases: [Case; 5] = [
        // KVM's own bug of this kind: CVE-2026-53359.
        (
            "boot-lab",
            below_a_large_page,
            shadowing,
            "the guest maps a large page at level 2",
        ),
        (
            "boot-lab",
            below_a_large_page,
            another_frame,
            "the guest maps a large page at level 2",
        ),
        (
            "boot-lab",
            below_direct,
            shadowing,
            "a direct child of a direct page",
        ),
        (
            "boot-lab",
            below_direct,
            another_frame,
            "a direct page from gfn",
        ),
        (
            "boot-lab",
            below_table,
            |page| page.gfn.0 += 1,
            "a direct page whose gfn is a multiple of 0x200",
        ),
    ];
    for (name, which, change, words) in cases {
        let mut copy = Copy::of(name);
        let (page, seq) = which(&copy);
        change(&mut copy.rows.pages[page]);
        let found = copy.violates("child_role", seq);
        let expected = found["expected"].as_str().unwrap();
        assert!(expected.contains(words), "{words}: {found:#}");
    }
}

#[test]
fn a_child_whose_role_has_another_field_is_found() {
    for field in ["smm", "guest_mode", "has_4_byte_gpte"] {
        let mut copy = Copy::of("lab");
        let (page, seq) = link(&copy, |of, child| of.direct == 0 && child.direct == 0);
        let role = &mut copy.rows.pages[page].role;
        *role = Role(role.0 | 1 << copy.meta.role[field][0]);
        let found = copy.violates("child_role", seq);
        let words = (&found["expected"], &found["found"]);
        let (none, one) = (format!("{field} 0"), format!("{field} 1"));
        assert_eq!(words, (&none.into(), &one.into()), "{found:#}");
    }
}

#[test]
fn a_page_that_is_born_invalid_is_found() {
    let mut copy = Copy::of("lab");
    let (page, _) = link(&copy, |_, child| child.event == PageEvent::Born);
    let invalid = 1 << copy.field("invalid");
    let page = &mut copy.rows.pages[page];
    page.role.0 |= invalid;
    let seq = page.seq;
    let found = copy.violates("invalid_root", seq);
    assert_eq!(found["found"], "a page born with an invalid role");
    assert_eq!(found["in_keyframe"], false);
}
