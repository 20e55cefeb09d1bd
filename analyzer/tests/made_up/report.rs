//! The report.

use maker::Shape;

use super::demo::{Demo, two};

/// The table of classes and the example must speak of the same fault.
#[test]
fn the_example_of_a_report_is_the_shadow_fault_of_median_time() {
    let demo = Demo::new(Shape {
        pages: 4000,
        ..Shape::default()
    });
    let page = demo.json(&["report", "demo.trace", "--json"], 0);
    let example = page["traces"][0]["sections"][0]["example"]
        .as_str()
        .unwrap();
    let summary = demo.json(&["summary", "demo.trace", "--json"], 0);
    let median = summary["vms"][0]["classes"]["shadow"]["p50_ns"]
        .as_u64()
        .unwrap();
    let took = format!("took {} ", analyzer::text::units::ns(median));
    assert!(example.contains(&took), "{took}: {example}");
}

#[test]
fn a_report_has_a_part_for_each_vm() {
    let demo = two();
    demo.text(&["report", "demo.trace", "-o", "page.html"], 0);
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert_eq!(html.matches("<section id=").count(), 2);
    assert_eq!(html.matches("<svg").count(), 12);
    assert!(html.contains("VM 1 (made-up, pid 4711, vCPU 0): "));
    demo.text(&["report", "demo.trace", "--vm", "1", "-o", "page.html"], 0);
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert_eq!(html.matches("<section id=").count(), 1);
    assert!(!html.contains("VM 0 (pid"));
}

#[test]
fn a_report_holds_every_figure_and_no_address_of_the_network() {
    let demo = Demo::new(Shape {
        pages: 64,
        passes: 2,
        ..Shape::default()
    });
    demo.text(
        &["report", "demo.trace", "demo.trace", "-o", "page.html"],
        0,
    );
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert_eq!(html.matches("<svg").count(), 12);
    assert!(!html.contains("<script"));
    // The SVG namespace is a name, not an address.
    let addresses = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!addresses.contains("http:") && !addresses.contains("https:"));
}

#[test]
fn names_in_a_trace_cannot_write_html() {
    let demo = Demo::new(Shape::default());
    let file = demo.file("meta.json");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("made-up", "<script>alert(1)</script>\\u001b[31m");
    std::fs::write(&file, text).unwrap();
    demo.text(&["report", "demo.trace", "-o", "page.html"], 0);
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert!(!html.contains("<script") && !html.contains('\u{1b}'));
    assert!(!demo.text(&["summary", "demo.trace"], 0).contains('\u{1b}'));
}
