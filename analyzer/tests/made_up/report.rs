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
    let explained = &page["traces"][0]["sections"][0]["explained"];
    let explained = explained.as_array().unwrap().iter();
    let mut explained = explained.filter(|one| one["label"] == "a shadow fault of median time");
    let example = explained.next().unwrap()["text"].as_str().unwrap();
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
    assert_eq!(html.matches("<section class=\"vm\"").count(), 2);
    // Only the first VM has changes of entries.
    assert_eq!(html.matches("<svg").count(), 13);
    assert!(html.contains("VM 1 (made-up, pid 4711, vCPU 0): "));
    demo.text(&["report", "demo.trace", "--vm", "1", "-o", "page.html"], 0);
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert_eq!(html.matches("<section class=\"vm\"").count(), 1);
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
    assert_eq!(html.matches("<svg").count(), 14);
    assert_eq!(
        html.matches("<script").count(),
        3,
        "ours, and the data of two VMs"
    );
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
    assert!(!html.contains("<script>alert") && !html.contains('\u{1b}'));
    assert_eq!(html.matches("</script>").count(), 2, "ours, and the data");
    assert!(!demo.text(&["summary", "demo.trace"], 0).contains('\u{1b}'));
}

#[test]
fn figures_are_files_and_tables_are_markdown() {
    let demo = Demo::new(Shape::default());
    let text = demo.text(
        &[
            "report",
            "demo.trace",
            "--format",
            "markdown",
            "--figures",
            "figures",
        ],
        0,
    );
    assert!(text.contains("### Cost by class\n\n| class |"), "{text}");
    assert!(text.contains("Faults a second, and entries in the shadow tables: at most "));
    for name in ["share", "rates", "latency", "steps", "heat", "pages"] {
        let file = format!("figures/demo.trace-vm-0-{name}.svg");
        let svg = std::fs::read_to_string(demo.0.path().join(file)).unwrap();
        assert!(svg.starts_with("<svg "), "{name}");
    }
}

#[test]
fn a_page_says_what_its_slider_has() {
    let demo = Demo::new(Shape {
        pages: 2000,
        ..Shape::default()
    });
    let moments = |more: &[&str]| {
        let args = [&["report", "demo.trace", "--json"], more].concat();
        let page = demo.json(&args, 0);
        let moments = &page["traces"][0]["sections"][0]["moments"];
        moments.as_str().unwrap().to_owned()
    };
    assert!(moments(&[]).starts_with("Every record of this VM: "));
    let sampled = moments(&["--moments", "5000"]);
    assert!(sampled.starts_with("Every record up to seq "), "{sampled}");
    assert!(sampled.contains(" samples, each a fault"), "{sampled}");
}

#[test]
fn a_lesson_has_the_numbers_of_the_recordings_that_come_with_it() {
    let demo = Demo::new(Shape::default());
    demo.text(&["lesson"], 0);
    let page = std::fs::read_to_string(demo.0.path().join("lesson.html")).unwrap();
    // The fault of `demand` whose leaf entry the emulator stored just before.
    assert!(page.contains("KVM emulated the guest&#39;s store to the leaf entry"));
    assert!(page.contains("the guest&#39;s level 1 entry was stored by the emulator"));
    for name in ["<h3>linear</h3>", "<h3>demand</h3>", "0x8000001000"] {
        assert!(page.contains(name), "{name}");
    }
    assert_eq!(page.matches("<section class=\"slide").count(), 5);
    demo.error(&["lesson", "--seq", "1"], 2);
    let none = demo.error(&["lesson", "demo.trace", "--seq", "999999999"], 1);
    assert!(none.contains("no record of seq"), "{none}");
}
