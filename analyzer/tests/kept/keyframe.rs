//! What only a keyframe shows: each check of KVM's own tables broken in a copy of a recording, by
//! rows of its last keyframe alone.

use events::{Gfn, Level, Seq, Spte};
use trace::KeyframeRow;

use super::copy::Copy;

/// Rows of the last keyframe, and the number of its mark.
fn last(copy: &mut Copy) -> (Vec<&mut KeyframeRow>, Seq) {
    let marks = copy.rows.marks.iter().filter(|row| row.keyframe.is_some());
    let mark = marks.max_by_key(|row| row.seq).expect("a keyframe").clone();
    let rows = copy.rows.keyframes.iter_mut();
    let rows = rows.filter(|row| Some(row.keyframe) == mark.keyframe);
    (rows.collect(), mark.seq)
}

fn leaves<'a>(rows: &'a mut [&mut KeyframeRow]) -> impl Iterator<Item = &'a mut KeyframeRow> {
    let rows = rows.iter_mut().map(|row| &mut **row);
    rows.filter(|row| row.level == Level(1) && row.leaf_gfn.is_some())
}

/// A bit in the role of a leaf table.
fn role(rows: &mut [&mut KeyframeRow], bit: u8) {
    let spt = leaves(rows).next().expect("a leaf").spt;
    for row in rows.iter_mut().filter(|row| row.spt == spt) {
        row.role.0 |= 1 << bit;
    }
}

/// A writable leaf of the frame that holds a synced table of level 2.
fn writable(rows: &mut [&mut KeyframeRow]) {
    let mut tables = rows.iter().filter(|row| row.index.is_none());
    let table = tables.find(|row| row.level == Level(2) && row.direct == 0);
    let gfn = table.expect("a table").gfn;
    let mut leaves = leaves(rows);
    let leaf = leaves.find(|row| row.spte.is_some_and(Spte::is_writable));
    leaf.expect("a writable leaf").leaf_gfn = Some(gfn);
}

/// A leaf table becomes a direct page. A leaf of another table maps one of its frames elsewhere.
fn direct(rows: &mut [&mut KeyframeRow]) {
    let leaf = leaves(rows).next().expect("a leaf").clone();
    let frame = leaf.leaf_gfn.expect("its frame");
    let first = Gfn(frame.0 - u64::from(leaf.index.expect("an entry")));
    for row in rows.iter_mut().filter(|row| row.spt == leaf.spt) {
        (row.direct, row.gfn, row.leaf_gfn) = (1, first, None);
    }
    let other = leaves(rows).find(|row| row.spt != leaf.spt && row.spte != leaf.spte);
    other.expect("another table's leaf").leaf_gfn = Some(frame);
}

#[test]
fn what_a_keyframe_shows_is_found() {
    type Break = fn(&mut [&mut KeyframeRow], &dyn Fn(&str) -> u8);
    let cases: [(&str, Break, &str); 5] = [
        (
            "invalid_root",
            |rows, field| role(rows, field("invalid")),
            "no entry in a page whose role is invalid",
        ),
        (
            "child_role",
            |rows, field| role(rows, field("guest_mode")),
            "guest_mode 0",
        ),
        ("writable_table", |rows, _| writable(rows), "no W: gfn"),
        (
            "outside_slot",
            |rows, _| leaves(rows).next().expect("a leaf").leaf_gfn = Some(Gfn(0x70_0000)),
            "a leaf of frames that one memslot holds",
        ),
        (
            "direct_leaf_frame",
            |rows, _| direct(rows),
            "which the entry",
        ),
    ];
    for (check, break_it, words) in cases {
        let mut copy = Copy::of("lab");
        let fields = copy.meta.role.clone();
        let (mut rows, mark) = last(&mut copy);
        break_it(&mut rows, &|name| fields[name][0]);
        let found = copy.violates(check, mark);
        let expected = found["expected"].as_str().unwrap();
        assert!(expected.contains(words), "{check}: {found:#}");
        assert_eq!(found["in_keyframe"], true, "{check}");
        let show = found["show"].as_str().unwrap();
        assert!(show.starts_with("table --seq"), "{check}: {show}");
    }
}
