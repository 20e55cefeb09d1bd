//! The report.

use maker::Shape;

use super::demo::{Demo, two};
use crate::support::recording;

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
    let mut explained = explained.filter(|one| one["label"] == "a fault of median time, shadow");
    let example = explained.next().unwrap()["text"].as_str().unwrap();
    let summary = demo.json(&["summary", "demo.trace", "--json"], 0);
    let median = summary["vms"][0]["classes"]["shadow"]["p50_ns"]
        .as_u64()
        .unwrap();
    let took = format!("took {} ", analyzer::text::units::ns(median));
    assert!(example.contains(&took), "{took}: {example}");
}

/// A VM that did nothing has no figure, and no table about nothing.
#[test]
fn a_report_without_faults_has_nothing_about_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut meta = trace::Meta {
        schema: trace::SCHEMA_VERSION,
        vms: vec![trace::VmMeta::default()],
        ..trace::Meta::default()
    };
    let path = folder.path().join("idle.trace");
    let writer = trace::TraceWriter::create(&path, &meta).unwrap();
    meta.complete = true;
    meta.end = Some(trace::End::default());
    writer.meta_file().write(&meta).unwrap();
    super::demo::run(folder.path(), &["report", "idle.trace", "-o", "page.html"]);
    let html = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(html.contains("No fault was recorded."));
    for nothing in [
        "0 faults took",
        "<svg",
        "The faults that took longest",
        "What became of each guest table",
        "They map nothing",
    ] {
        assert!(!html.contains(nothing), "{nothing}");
    }
}

#[test]
fn a_report_has_a_part_for_each_vm() {
    let demo = two();
    demo.text(&["report", "demo.trace", "-o", "page.html"], 0);
    let html = std::fs::read_to_string(demo.0.path().join("page.html")).unwrap();
    assert_eq!(html.matches("<section class=\"vm\"").count(), 2);
    // Only the first VM has changes of entries.
    assert_eq!(html.matches("<svg").count(), 14);
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
    assert_eq!(html.matches("<svg").count(), 3 + 14);
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
        let size = |which: &str| {
            let value = svg.split(&format!(" {which}=\"")).nth(1).unwrap();
            value.split('"').next().unwrap().parse::<u32>().unwrap()
        };
        let file = format!("figures/demo.trace-vm-0-{name}.png");
        let png = std::fs::read(demo.0.path().join(file)).unwrap();
        let (width, height, pixels) = decode(&png);
        assert_eq!([width, height], [2 * size("width"), 2 * size("height")]);
        // On white paper, with words and colours.
        let of = |colour: [u8; 3]| pixels.chunks(3).filter(|pixel| **pixel == colour).count();
        let all = pixels.len() / 3;
        assert!(of([255; 3]) > all / 3, "{name}");
        assert!(of([51; 3]) > 100, "{name}: words");
        let coloured = pixels.chunks(3).filter(|rgb| rgb[0] != rgb[1]).count();
        assert!(coloured > 500, "{name}: {coloured}");
    }
}

/// Width, height, and the rows of an 8-bit RGB file whose rows are not filtered.
fn decode(png: &[u8]) -> (u32, u32, Vec<u8>) {
    use std::io::Read as _;

    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
    let (mut at, mut size, mut packed, mut kinds) = (8, (0, 0), Vec::new(), Vec::new());
    while at < png.len() {
        let length = number(&png[at..at + 4]) as usize;
        let chunk = &png[at + 4..at + 8 + length];
        let sum = number(&png[at + 8 + length..at + 12 + length]);
        assert_eq!(crc32fast::hash(chunk), sum);
        match &chunk[..4] {
            b"IHDR" => {
                size = (number(&chunk[4..8]), number(&chunk[8..12]));
                assert_eq!(chunk[12..], [8, 2, 0, 0, 0]);
            }
            b"IDAT" => packed.extend(&chunk[4..]),
            _ => {}
        }
        kinds.push(chunk[..4].to_vec());
        at += 12 + length;
    }
    assert_eq!(kinds, [b"IHDR", b"IDAT", b"IEND"]);
    let mut rows = Vec::new();
    let mut decoder = flate2::read::ZlibDecoder::new(&packed[..]);
    decoder.read_to_end(&mut rows).unwrap();
    let row = 3 * size.0 as usize + 1;
    assert_eq!(rows.len(), row * size.1 as usize);
    let pixels = rows.chunks(row).flat_map(|row| {
        assert_eq!(row[0], 0);
        row[1..].to_vec()
    });
    (size.0, size.1, pixels.collect())
}

/// The numbers are those of each trace, the verdict that of `diff`.
#[test]
fn several_traces_are_shown_side_by_side() {
    let demo = Demo::new(Shape {
        pages: 512,
        ..Shape::default()
    });
    let shape = Shape {
        pages: 800,
        ..Shape::default()
    };
    maker::Maker::new(shape)
        .write(&demo.0.path().join("more.trace"))
        .unwrap();
    let names = ["demo.trace", "more.trace", "demo.trace"];
    let page = demo.json(&[&["report"][..], &names, &["--json"]].concat(), 0);
    let beside = &page["beside"];
    let figures = beside["figures"].as_array().unwrap();
    let words = figures[0]["numbers"].as_str().unwrap();
    for name in names {
        let summary = demo.json(&["summary", name, "--json"], 0);
        let faults = summary["vms"][0]["faults"].as_u64().unwrap();
        let faults = analyzer::text::units::count(faults);
        assert!(
            words.contains(&format!("{name}: {faults} faults")),
            "{words}"
        );
    }
    let others = beside["others"].as_array().unwrap();
    assert_eq!(others.len(), 2);
    assert_eq!(others[0]["title"], "From demo.trace to more.trace");
    let diff = demo.text(&["diff", "demo.trace", "more.trace"], 0);
    let verdict = &others[0]["verdict"];
    // A change is not wrong.
    assert_ne!(verdict["mark"], "bad");
    let verdict = verdict["text"].as_str().unwrap();
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(plain(&diff).contains(&plain(verdict)), "{diff}");
    assert_eq!(others[1]["verdict"]["mark"], "good");
    let warnings = beside["warnings"].as_array().unwrap();
    for (number, warning) in warnings.iter().enumerate() {
        assert!(
            !warnings[..number].contains(warning),
            "said once: {warning}"
        );
    }
    let text = demo.text(
        &["report", "demo.trace", "more.trace", "--format", "markdown"],
        0,
    );
    assert!(text.contains("## From demo.trace to more.trace"), "{text}");
    let one = demo.json(&["report", "demo.trace", "--json"], 0);
    assert!(one["beside"].is_null());
}

/// What is true of every time, of a column, of few faults is said at one place; the words of the
/// tables have their meaning on the page.
#[test]
fn a_sentence_is_said_once_and_words_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let trace = recording("boot-lab");
    let name = trace.display().to_string();
    let run = |more: &[&str]| {
        let done = super::demo::run(folder.path(), &[&["report", &name][..], more].concat());
        assert!(done.status.success());
        String::from_utf8(done.stdout).unwrap()
    };
    run(&["-o", "page.html"]);
    let html = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    let markdown = run(&["--format", "markdown"]);
    let (_, switched_out) = analyzer::faults::SWITCHED_OUT.split_once(": ").unwrap();
    for (what, text) in [("page", &html), ("Markdown", &markdown)] {
        for once in ["Times are those of an emulated CPU", analyzer::faults::FEW] {
            assert_eq!(text.matches(once).count(), 1, "{what}: {once}");
        }
        assert!(text.matches(switched_out).count() <= 1, "{what}");
    }
    let (_, words) = html.split_once("What the words mean</h3>").unwrap();
    let (words, _) = words.split_once("<script").unwrap();
    for group in [
        "Rules of the first lines",
        "Numbers",
        "Classes of faults",
        "Steps of a fault",
        "Why a fault was needed",
        "Why entries change",
        "Shadow pages",
    ] {
        assert!(words.contains(&format!("<h4>{group}</h4>")), "{group}");
    }
    let of = |name: &str| format!("<dt>{name}</dt>");
    for name in ["costs most", "share", "of run", "shadow", "walk", "role"] {
        assert!(words.contains(&of(name)), "{name}");
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
    let page = page.replace("&#39;", "'");
    // The fault of `demand` whose leaf entry the emulator stored just before, and the one before,
    // which KVM passed on.
    assert!(page.contains("it was 0x0, and became 0x401007"));
    assert!(page.contains("The guest's kernel (fault 10): its own entry of level 1 is empty"));
    // `linear` had filled its table before: no store faulted, and nothing is marked.
    assert!(page.contains("filled its table of level 1 (0x212000) before KVM had a shadow of it"));
    assert!(page.contains("KVM made its shadow of the guest's table 0x212000 only in this fault"));
    // Each step names the fault that it shows, and each guest why no store faulted.
    assert!(page.contains("Fault 10 of the recording (record 30), 18.6 ms after its start; fault"));
    assert!(page.contains("; fault 11 (record 32) follows in steps 2 to 4"));
    assert!(page.contains("bits r 1, w 2, u 4; x: top bit 0. Frame and offset"));
    let unfaulted = "Stores that faulted so in this recording: 0. KVM-PVM carries out";
    // On the slide and on the handout, of both guests.
    assert_eq!(page.matches(unfaulted).count(), 4);
    assert_eq!(
        page.matches("in its walk, at the start of this fault")
            .count(),
        4
    );
    // A later walk read the upper entries again, with A; none read the leaf entry.
    assert!(page.contains("level 4, 3, 2: A (fault 9 read it); level 1: A and D (computed: no"));
    assert!(page.contains("0x8000001000: 1 fault: fault 9"));
    assert!(page.contains("0x8000002000: 2 faults: fault 12"));
    assert!(page.contains("24 passed on to the guest, 24 for a missing shadow entry"));
    assert!(page.contains("Linux 6.18.44-fc-v657, KVM-PVM"));
    for name in ["<h3>linear<", "<h3>demand<", "0x8000001000"] {
        assert!(page.contains(name), "{name}");
    }
    assert_eq!(page.matches("<section class=\"slide").count(), 8);
    // Counted by KVM: `demand` has a fault of its own for each of its 1,024 pages.
    assert!(
        page.contains("Of the 2,100, 1,024 are faults of a page"),
        "{page}"
    );
    assert!(page.contains("So at most 52 can be stores"), "{page}");
    explains_its_words(&page);
    demo.text(&["lesson", "demo.trace", "-o", "own.html"], 0);
    let page = std::fs::read_to_string(demo.0.path().join("own.html")).unwrap();
    assert_eq!(page.matches("<section class=\"slide").count(), 7);
    demo.error(&["lesson", "--seq", "1"], 2);
    // Its first faults came before the guest had paging: fault 0 is at the reset vector.
    let boot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/boot-lab");
    demo.text(&["lesson", boot, "-o", "boot.html"], 0);
    let page = std::fs::read_to_string(demo.0.path().join("boot.html")).unwrap();
    assert!(page.contains("Fault 358 of the recording"), "{page}");
    // The lecture's own step 1, which KVM ended before it looked for memslot and frame.
    let lab = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/lab");
    demo.text(&["lesson", lab, "--seq", "29", "-o", "store.html"], 0);
    let page = std::fs::read_to_string(demo.0.path().join("store.html")).unwrap();
    for said in [
        "is itself a store to a guest table that KVM write-protected",
        "KVM carried out the store: 0x200008 became 0x210007 (record 28)",
        "<b>HVA (computed)</b> <span>0x7f5f091fa008</span>",
        "<b>HPA (computed)</b> <span>0x6549008</span>",
        "Computed from the memslot that holds the GPA",
        "Computed from the shadow entry that maps it",
        "level 1 is there, but does not allow this access",
        "No shadow entry is written: KVM carries out the store.",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let unpaged = demo.error(&["lesson", boot, "--seq", "8"], 1);
    assert!(unpaged.contains("had no page tables"), "{unpaged}");
    let none = demo.error(&["lesson", "demo.trace", "--seq", "999999999"], 1);
    assert!(none.contains("no record of seq"), "{none}");
}

/// Each abbreviation of a page is among the words that it explains, or a name.
fn explains_its_words(page: &str) {
    const NAMES: [&str; 7] = ["AMD", "EPYC", "QEMU", "GUEST", "ADHM", "HTML", "UTF"];
    let (_, body) = page.split_once("<main>").unwrap();
    let (body, _) = body.split_once("<script>").unwrap();
    let tagless: String = body
        .split('<')
        .map(|part| part.split_once('>').map_or(part, |(_, text)| text))
        .fold(String::new(), |text, part| text + part + " ");
    let glossary: Vec<_> = page.split("<dt>").skip(1).collect();
    let explained: String = glossary
        .iter()
        .map(|part| part.split_once("</dt>").unwrap().0)
        .fold(String::new(), |text, part| text + part + " ");
    for word in tagless.split(|letter: char| !letter.is_ascii_alphabetic()) {
        let stem = word.strip_suffix('s').unwrap_or(word);
        let is_short = stem.len() > 1 && stem.bytes().all(|letter| letter.is_ascii_uppercase());
        let is_known = explained.contains(stem) || NAMES.contains(&stem);
        assert!(!is_short || is_known, "{word} is not explained");
    }
    for word in [
        "exit",
        "memslot",
        "unsync",
        "frame",
        "page fault",
        "write-protected",
        "KVM-PVM",
    ] {
        assert!(explained.contains(word), "{word} is not explained");
    }
}
