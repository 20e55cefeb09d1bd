//! One fault, one moment, a stretch of time: `explain`, `table`, `timeline`.

use maker::Shape;

use super::demo::{Demo, two};

#[test]
fn explain_shows_the_five_steps() {
    insta::assert_snapshot!(
        Demo::new(Shape::default()).text(&["explain", "demo.trace", "--fault", "1"], 0)
    );
}

#[test]
fn explain_shows_the_guests_own_fault_as_such() {
    let args = ["explain", "demo.trace", "--class", "guest", "--nth", "2"];
    insta::assert_snapshot!(Demo::new(Shape::default()).text(&args, 0));
}

#[test]
fn table_shows_tree_ranges_and_translation() {
    let demo = Demo::new(Shape {
        pages: 600,
        ..Shape::default()
    });
    let mut text = demo.text(&["table", "demo.trace"], 0);
    text += &demo.text(&["table", "demo.trace", "--as", "ranges"], 0);
    text += &demo.text(&["table", "demo.trace", "--gva", "0x400000003abc"], 0);
    text += &demo.text(&["table", "demo.trace", "--fault", "3"], 0);
    text += &demo.text(&["table", "demo.trace", "--phase", "touch"], 0);
    insta::assert_snapshot!(text);
}

#[test]
fn table_shows_what_changed_between_two_moments() {
    let demo = Demo::new(Shape {
        pages: 4,
        passes: 2,
        ..Shape::default()
    });
    insta::assert_snapshot!(demo.text(&["table", "demo.trace", "--diff", "30us", "end"], 0));
}

#[test]
fn timeline_follows_the_tables() {
    insta::assert_snapshot!(
        Demo::new(Shape::default()).text(&["timeline", "demo.trace", "--lines", "6"], 0)
    );
}

#[test]
fn a_table_below_a_pae_root_is_shown() {
    let demo = two();
    let mut text = demo.text(&["table", "demo.trace", "--vm", "1"], 0);
    text += &demo.text(&["table", "demo.trace", "--vm", "1", "--as", "ranges"], 0);
    let gva = ["table", "demo.trace", "--vm", "1", "--gva", "0x100b123"];
    text += &demo.text(&gva, 0);
    text += &demo.text(&["table", "demo.trace", "--vm", "1", "--at", "1us"], 0);
    text += &demo.text(&["explain", "demo.trace", "--vm", "1", "--fault", "1"], 0);
    insta::assert_snapshot!(text);
}

#[test]
fn a_store_to_a_protected_table_is_explained_with_what_it_cleared() {
    let args = [
        "explain",
        "demo.trace",
        "--vm",
        "0",
        "--class",
        "write_protected",
    ];
    insta::assert_snapshot!(two().text(&args, 0));
}

#[test]
fn a_fault_after_a_store_and_one_after_the_hosts_unmap_say_so() {
    let demo = two();
    let gva = [
        "explain",
        "demo.trace",
        "--vm",
        "0",
        "--gva",
        "0x400000000000",
    ];
    let mut text = demo.text(&[gva.as_slice(), &["--nth", "1"]].concat(), 0);
    text += &demo.text(&[gva.as_slice(), &["--nth", "3"]].concat(), 0);
    insta::assert_snapshot!(text);
}
