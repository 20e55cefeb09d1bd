//! The report in a real browser: every figure has a size, the script does what it should by mouse
//! and by keyboard, nothing is logged, nothing leaves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use maker::{Maker, Shape, Vms};
use serde_json::Value;

use crate::support::{analyzer, recording};

/// A script that writes what `drive` gives where the test finds it.
fn probe(drive: &str) -> String {
    format!(
        r#"<script>
window.addEventListener("load", async () => {{
  let result;
  try {{
    if (window.shadowscope) await shadowscope.ready;
    result = await (async () => {{ {drive} }})();
  }} catch (error) {{ result = {{ failed: String(error.stack) }}; }}
  const text = "RESULT[[" + JSON.stringify(result) + "]]RESULT";
  if (parent !== window) return parent.postMessage(text, "*");
  const out = document.createElement("script");
  out.type = "text/plain";
  out.textContent = text;
  document.body.append(out);
}});
</script></body>"#
    )
}

/// Figures that take room, whether anything is wider than the window, requests.
const LOOK: &str = r##"
  const boxes = [...document.querySelectorAll("figure svg")].map((svg) => svg.getBoundingClientRect());
  const first = document.querySelector("figure svg").getBoundingClientRect();
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  const text = [...document.querySelectorAll("figure svg text")].map((node) => node.getBoundingClientRect().height);
  return {
    figures: boxes.length, shown: boxes.filter((box) => box.width > 100 && box.height > 50).length,
    wide: document.documentElement.scrollWidth > window.innerWidth + 1,
    loaded: performance.getEntriesByType("resource").length,
    first: first.top + scrollY, text: Math.min(...text),
    twice: ids.filter((id, at) => ids.indexOf(id) !== at),
    dead: [...document.querySelectorAll('a[href^="#"]')].map((a) => a.hash.slice(1)).filter((id) => !ids.includes(id)),
    unnamed: [...document.querySelectorAll("figure svg")].filter((svg) => !svg.getAttribute("aria-label") || svg.getAttribute("role") !== "img").length,
    heads: [...document.querySelectorAll("th")].filter((th) => th.scope !== "col").length,
    empty: [...document.querySelectorAll("table")].filter((table) => !table.tBodies[0].rows.length).length,
  };"##;

/// What a page in a window of some width gives for a script; fails if anything is logged or asked
/// for.
fn drive(page: &Path, width: u32, script: &str) -> Value {
    drive_with(page, width, &[], script)
}

/// The same with more options of the browser.
fn drive_with(page: &Path, width: u32, options: &[&str], script: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let driven = folder.path().join("page.html");
    let html = fs::read_to_string(page).unwrap();
    // A page without a script forbids this one.
    let html = match html.contains("script-src") {
        true => html,
        false => html.replace("default-src 'none';", "script-src 'unsafe-inline';"),
    };
    fs::write(&driven, html.replace("</body>", &probe(script))).unwrap();
    let opened = match width < 500 {
        true => framed(folder.path(), width),
        false => driven,
    };
    let net = folder.path().join("net.json");
    let profile = folder.path().join("profile");
    let output = Command::new("/usr/bin/chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args([
            "--disable-sync",
            "--disable-extensions",
            "--enable-logging=stderr",
        ])
        .args([
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=20000",
        ])
        .args(options)
        .arg(format!("--window-size={width},900"))
        .arg("--dump-dom")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--log-net-log={}", net.display()))
        .arg(format!("file://{}", opened.display()))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!log.contains("CONSOLE"), "{log}");
    sends_nothing(&fs::read_to_string(net).unwrap_or_default());
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, result) = dom.rsplit_once("RESULT[[").expect("a result");
    let (result, _) = result.split_once("]]RESULT").unwrap();
    let result: Value = serde_json::from_str(result).unwrap();
    assert_eq!(result["failed"], Value::Null, "{result:#}");
    result
}

/// A page with `page.html` in a frame: no window of the browser is as narrow as a phone.
fn framed(folder: &Path, width: u32) -> PathBuf {
    let outer = folder.join("outer.html");
    let html = format!(
        r#"<!doctype html><iframe src="page.html" style="width:{width}px;height:900px;border:0">
</iframe><script type="text/plain" id="out"></script><script>
addEventListener("message", (event) => {{ document.getElementById("out").textContent = event.data; }});
</script>"#
    );
    fs::write(&outer, html).unwrap();
    outer
}

/// Every request is logged with its address. The browser itself sends some to Google, whatever is
/// forbidden.
fn sends_nothing(net: &str) {
    assert!(
        net.contains("constants"),
        "no log of the network was written"
    );
    let addresses = net.split("\"url\":\"").skip(1);
    let addresses = addresses.filter_map(|rest| rest.split('"').next());
    let own = |host: &str| host.ends_with(".google.com") || host.ends_with(".googleapis.com");
    let host = |address: &str| address.split('/').nth(2).unwrap_or_default().to_owned();
    let of_page: Vec<_> = addresses
        .filter(|address| address.starts_with("http") && !own(&host(address)))
        .collect();
    assert!(of_page.is_empty(), "{of_page:?}");
}

fn report(folder: &Path, traces: &[&Path], options: &[&str]) -> PathBuf {
    let page = folder.join("page.html");
    let done = analyzer()
        .arg("report")
        .args(traces)
        .args(options)
        .arg("-o")
        .arg(&page)
        .status()
        .unwrap();
    assert!(done.success());
    page
}

#[test]
#[ignore = "needs Debian's chromium; `make test` runs it"]
fn a_report_opens_in_a_browser_without_network() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("demo.trace");
    Maker::new(Shape {
        pages: 256,
        passes: 3,
        lose: Some(40),
        ..Shape::default()
    })
    .write(&trace)
    .unwrap();
    let two = folder.path().join("two.trace");
    Maker::new(Shape {
        vms: Vms::Attached,
        ..Shape::default()
    })
    .write(&two)
    .unwrap();
    let page = report(folder.path(), &[&trace, &two], &[]);
    for width in [1280, 390] {
        let seen = drive(&page, width, LOOK);
        for (what, expected) in [
            ("figures", 24.into()),
            ("shown", 24.into()),
            ("wide", false.into()),
            ("loaded", 0.into()),
            ("twice", Value::Array(Vec::new())),
            ("dead", Value::Array(Vec::new())),
            ("unnamed", 0.into()),
            ("heads", 0.into()),
            ("empty", 0.into()),
        ] {
            assert_eq!(seen[what], expected, "{what} at {width} px: {seen:#}");
        }
        // Words of a figure are never smaller than this, px; on a phone, figures scroll.
        assert!(seen["text"].as_f64().unwrap() > 9.0, "{width}: {seen:#}");
        if width > 1000 {
            assert!(seen["first"].as_f64().unwrap() < 900.0, "{seen:#}");
        }
    }
}

#[test]
#[ignore = "needs Debian's chromium; `make test` runs it"]
fn a_report_is_driven_by_mouse_and_keyboard() {
    let folder = tempfile::tempdir().unwrap();
    let page = report(folder.path(), &[&recording("unsync")], &[]);
    let seen = drive(
        &page,
        1280,
        r#"
  const vm = shadowscope.vms[0], { moment } = vm, seen = {};
  // Where the page opens, both sides have tables, with the letters of `explain`.
  seen.opens = [...document.querySelectorAll(".side")].map((side) => side.querySelectorAll(".tree").length);
  seen.letters = [...document.querySelectorAll(".side")].map((side) => side.querySelector(".tree li:nth-child(2)").textContent);
  seen.legend = document.querySelector(".moment").textContent.includes(vm.data.legend);
  const key = (node, key) => node.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const pointer = (node, type, x, y) => node.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: y, button: 0, bubbles: true }));
  // The slider by keyboard, its buttons by mouse, by fault and by phase.
  moment.show(0);
  key(moment.slider, "ArrowRight");
  seen.key = moment.at;
  document.querySelector('[aria-label="Step back"]').click();
  seen.back = moment.at;
  moment.by.value = "fault";
  const forward = document.querySelector('[aria-label="Step forward"]');
  forward.click(); forward.click();
  seen.fault = vm.tables.steps[moment.at].k;
  seen.cause = document.querySelector(".cause").textContent;
  seen.changed = document.querySelectorAll(".tree .changed").length;
  seen.cells = document.querySelectorAll(".grid i").length;
  moment.by.value = "phase";
  forward.click();
  seen.phase = document.querySelector(".cause").textContent;
  // Zoom by drag and by keyboard; the cursor is in all figures.
  const figure = vm.figures[0], box = figure.svg.getBoundingClientRect(), y = box.top + box.height / 3;
  pointer(figure.svg, "pointerdown", box.left + box.width * 0.3, y);
  pointer(figure.svg, "pointermove", box.left + box.width * 0.6, y);
  seen.tip = document.querySelector(".tip").textContent;
  pointer(figure.svg, "pointerup", box.left + box.width * 0.6, y);
  seen.zoomed = vm.figures.every((one) => one.svg.classList.contains("live"));
  seen.range = vm.range;
  const region = figure.svg.parentNode;
  key(region, "0");
  seen.all = vm.range;
  key(region, "End"); key(region, "+");
  seen.keyed = vm.range !== null;
  // A key that is held; a drag that leaves the figure.
  for (let n = 0; n < 100; n += 1) key(region, "+");
  seen.shapes = figure.svg.querySelectorAll("*").length;
  seen.least = vm.range[1] - vm.range[0];
  key(region, "0");
  pointer(figure.svg, "pointerdown", box.left + box.width * 0.3, y);
  pointer(figure.svg, "pointerleave", box.left - 5, y);
  pointer(figure.svg, "pointermove", box.left + box.width * 0.6, y);
  pointer(figure.svg, "pointerup", box.left + box.width * 0.6, y);
  seen.left = vm.range;
  key(region, "+");
  key(region, "Escape");
  seen.cursors = document.querySelectorAll(".over .cursor").length;
  key(region, "Home"); key(region, "ArrowRight");
  seen.moved = vm.cursor > 0;
  // A class out and in again.
  const chip = document.querySelector('.chips button[data-class="shadow"]');
  chip.click();
  const heat = vm.figures.find((one) => one.name === "heat");
  const all = () => heat.areas(vm.data.times.heat).flatMap((area) => area.cells).reduce((sum, [, , n]) => sum + n, 0);
  const covered = () => ["share", "latency", "steps"].map((name) => document.querySelectorAll(`figure[data-figure=${name}] .cover`).length);
  const state = () => [chip.getAttribute("aria-pressed"), figure.svg.classList.contains("live"), heat.svg.classList.contains("live"), covered()];
  seen.filtered = state();
  seen.left_out = all();
  chip.click();
  seen.unfiltered = state();
  seen.every = all();
  seen.shadow = vm.tables.steps.filter((s) => s.k === 0 && vm.tables.head.classes.find(([n]) => n === s.class)[1] === "shadow").length;
  // The heat map says where the pointer is: address range, time, faults.
  const map = heat.svg.getBoundingClientRect(), [left, top, right, bottom] = heat.plots[0], px = map.width / 960;
  pointer(heat.svg, "pointermove", map.left + (left + right) / 2 * px, map.top + (top + bottom) / 2 * px);
  seen.cell = document.querySelector(".tip").textContent;
  // An explanation by mouse and by keyboard; an entry by each.
  const flag = document.querySelector(".over .flag");
  flag.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  seen.byMouse = document.querySelector(".detail pre").textContent;
  moment.show(0);
  key(document.querySelector(".over .flag"), "Enter");
  seen.byKey = document.querySelector(".detail pre").textContent;
  document.querySelector(".tree button:not([aria-pressed])").click();
  seen.entry = document.querySelector(".detail").textContent;
  const grid = document.querySelector(".grid");
  key(grid, "ArrowRight");
  seen.read = document.querySelector(".detail").textContent;
  return seen;"#,
    );
    assert_eq!((&seen["key"], &seen["back"]), (&1.into(), &0.into()));
    assert_eq!(seen["fault"], 0, "{seen:#}");
    let text = |what: &str| seen[what].as_str().unwrap().to_owned();
    assert!(text("cause").starts_with("fault at 0x"), "{seen:#}");
    assert!(seen["changed"].as_u64() > Some(0), "{seen:#}");
    assert_eq!(seen["cells"], 1024, "a guest table and a shadow table");
    assert!(text("phase").starts_with("phase "), "{seen:#}");
    assert!(text("tip").contains("after the start"), "{seen:#}");
    assert_eq!(seen["zoomed"], true);
    assert_eq!(seen["range"].as_array().map(Vec::len), Some(2));
    assert_eq!((&seen["all"], &seen["keyed"]), (&Value::Null, &true.into()));
    assert!(seen["shapes"].as_u64() < Some(1000), "{seen:#}");
    assert!(seen["least"].as_f64() >= Some(1e-7), "{seen:#}");
    assert_eq!(seen["left"], Value::Null, "the drag had ended");
    assert_eq!(seen["cursors"], 4, "one in each figure over time");
    assert_eq!(seen["moved"], true);
    let covers = serde_json::json!(["false", true, true, [2, 1, 1]]);
    assert_eq!(seen["filtered"], covers);
    let covers = serde_json::json!(["true", false, false, [0, 0, 0]]);
    assert_eq!(seen["unfiltered"], covers);
    let number = |what: &str| seen[what].as_u64().unwrap();
    assert!(number("shadow") > 0, "{seen:#}");
    assert_eq!(number("left_out") + number("shadow"), number("every"));
    let cell = text("cell");
    assert!(
        cell.contains(" to 0x") && cell.contains(" fault") && cell.contains("after the start"),
        "{cell}"
    );
    assert_eq!(seen["opens"], serde_json::json!([1, 1]));
    for letters in seen["letters"].as_array().unwrap() {
        assert!(letters.as_str().unwrap().contains(" rwx"), "{letters}");
    }
    assert_eq!(seen["legend"], true);
    assert_eq!(text("byMouse"), text("byKey"));
    assert!(text("byMouse").contains("vCPU"), "{seen:#}");
    assert!(text("entry").starts_with("Entry "), "{seen:#}");
    assert!(text("read").starts_with("Entry "), "{seen:#}");
}

/// Gives the tables at twenty steps.
fn twenty(seed: u32) -> String {
    format!(
        r#"
  const vm = shadowscope.vms[0], {{ moment, tables }} = vm, found = [];
  let seed = {seed};
  for (let n = 0; n < 20; n++) {{
    seed = (seed * 48271 + 11) % 2147483647;
    const step = seed % tables.steps.length;
    moment.slider.value = step;
    moment.slider.dispatchEvent(new Event("input"));
    found.push({{ seq: tables.steps[step].seq, sampled: step >= tables.head.exact, pages: tables.json() }});
  }}
  return found;"#
    )
}

/// A page without what the page does not show.
fn page_of(page: &Value) -> Value {
    let entry = |entry: &Value| {
        let field = |name: &str, at: usize| entry.get(name).or(entry.get(at)).cloned();
        let hex = |value: Option<Value>| -> Option<u64> {
            let text = value?.as_str()?.to_owned();
            u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        };
        let index = field("index", 0).unwrap();
        serde_json::json!([index, hex(field("spte", 1)), hex(field("gfn", 2))])
    };
    let entries = page["entries"].as_array().unwrap().iter().map(entry);
    serde_json::json!({
        "spt": page["spt"], "level": page["level"], "gfn": page["gfn"], "role": page["role"],
        "direct": page["direct"], "unsync": page["unsync"],
        "entries": entries.collect::<Vec<_>>(),
    })
}

/// Compares twenty moments of the page's slider with `table`; gives how many were samples.
fn compare(trace: &Path, options: &[&str]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let page = report(folder.path(), &[trace], options);
    let seed = fastrand::u32(1..1 << 30);
    let found = drive(&page, 1280, &twenty(seed));
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), 20);
    let mut sampled = 0;
    for moment in found {
        let at = format!("seq:{}", moment["seq"]);
        let output = analyzer()
            .arg("table")
            .arg(trace)
            .args(["--at", &at, "--json"])
            .output()
            .unwrap();
        let table: Value = serde_json::from_slice(&output.stdout).unwrap();
        let shown = moment["pages"].as_array().unwrap().iter().map(page_of);
        let shown: Vec<_> = shown.collect();
        let real = table["pages"].as_array().unwrap().iter().map(page_of);
        let mut real: Vec<_> = real.collect();
        if moment["sampled"] == true {
            sampled += 1;
            assert!(!shown.is_empty());
            real.retain(|page| shown.iter().any(|other| other["spt"] == page["spt"]));
        }
        assert_eq!(shown, real, "{at} of {}, seed {seed}", trace.display());
    }
    sampled
}

/// Also on a page that has few of the faults one by one.
#[test]
#[ignore = "needs Debian's chromium; `make test` runs it"]
fn a_class_that_is_left_out_is_not_in_the_heat_map() {
    let folder = tempfile::tempdir().unwrap();
    let page = report(
        folder.path(),
        &[&recording("demand")],
        &["--moments", "4000"],
    );
    let seen = drive(
        &page,
        1280,
        r#"
  const vm = shadowscope.vms[0], heat = vm.figures.find((one) => one.name === "heat");
  const all = () => heat.areas(vm.data.times.heat).flatMap((area) => area.cells).reduce((sum, [, , n]) => sum + n, 0);
  const { times } = vm.data, seen = { sampled: vm.tables.head.exact_until !== null, before: all(), after: {}, faults: {} };
  for (const [name, , faults] of times.classes) {
    const chip = document.querySelector(`.chips button[data-class="${name}"]`);
    chip.click();
    seen.after[name] = all();
    seen.faults[name] = faults.reduce((sum, n) => sum + n, 0);
    chip.click();
  }
  return seen;"#,
    );
    assert_eq!(seen["sampled"], true, "{seen:#}");
    let number = |value: &Value| value.as_u64().unwrap();
    let faults = seen["faults"].as_object().unwrap();
    assert!(faults.len() > 1, "{seen:#}");
    for (class, faults) in faults {
        let left = number(&seen["before"]) - number(faults);
        assert_eq!(number(&seen["after"][class]), left, "{class}: {seen:#}");
    }
}

#[test]
#[ignore = "needs Debian's chromium; `make test` runs it"]
fn the_sliders_tables_are_those_of_the_command_table() {
    for name in [
        "demand",
        "unsync",
        "dirty-lab",
        "alias-lab",
        "keyframes",
        "boot-lab",
    ] {
        assert_eq!(compare(&recording(name), &[]), 0);
    }
    assert!(compare(&recording("demand"), &["--moments", "4000"]) > 0);
}

#[test]
#[ignore = "needs Debian's chromium; `make test` runs it"]
fn a_lesson_is_shown_by_arrow_keys() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("lesson.html");
    let mut lesson = analyzer();
    assert!(
        lesson
            .args(["lesson", "-o"])
            .arg(&page)
            .status()
            .unwrap()
            .success()
    );
    let seen = drive(
        &page,
        1280,
        r#"
  const key = (key) => dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const shown = () => [...document.querySelectorAll(".slide")].filter((one) => one.getBoundingClientRect().height > 0);
  const seen = { titles: [], changed: [] };
  key("Home");
  for (let n = 0; n < 5; n++) {
    seen.titles.push(shown().map((one) => one.querySelector("h2").textContent).join());
    seen.changed.push(shown()[0].querySelectorAll("tr.changed").length);
    key("ArrowRight");
  }
  key("ArrowLeft");
  seen.hidden = shown()[0].querySelectorAll("details[open]").length;
  key("a");
  seen.asked = shown()[0].querySelectorAll("details[open]").length;
  seen.wide = document.documentElement.scrollWidth > innerWidth + 1;
  return seen;"#,
    );
    let titles = seen["titles"].as_array().unwrap();
    let titles: Vec<_> = titles.iter().map(|title| title.as_str().unwrap()).collect();
    assert!(
        titles[0].starts_with("1. ") && titles[4].starts_with("5. "),
        "{titles:?}"
    );
    let changed = seen["changed"].as_array().unwrap();
    assert!(
        changed[0].as_u64() > Some(0) && changed[3].as_u64() > Some(0),
        "{seen:#}"
    );
    assert_eq!((&seen["hidden"], &seen["asked"]), (&0.into(), &2.into()));
    assert_eq!(seen["wide"], false);
}

/// What the slider says of stores, and what it shows of them.
const STORES: &str = r#"
  const vm = shadowscope.vms[0], { moment, tables } = vm, found = [];
  for (const s of tables.steps.filter((s) => s.k === 6).slice(0, 40)) {
    moment.show(s.n);
    const [mark] = document.querySelectorAll(".side .changed button");
    found.push({ seq: s.seq, said: document.querySelector(".cause").textContent, shown: mark ? mark.textContent : "",
      index: s.offset >> 3, value: "0x" + tables.value(s.value).toString(16), bytes: s.bytes });
  }
  return found;"#;

/// The table that a store goes to is shown, with the new value; what it removes is `explain`'s.
#[test]
#[ignore = "needs Debian's chromium; `make test` runs it"]
fn a_store_of_the_guest_is_shown_in_its_table() {
    let mut removed = 0;
    for name in ["flood-lab", "unsync"] {
        let folder = tempfile::tempdir().unwrap();
        let trace = recording(name);
        let page = report(folder.path(), &[&trace], &[]);
        let found = drive(&page, 1280, STORES);
        let found = found.as_array().unwrap();
        assert!(!found.is_empty(), "{name}");
        for store in found {
            let said = store["said"].as_str().unwrap();
            let value = store["value"].as_str().unwrap();
            assert!(
                said.starts_with(&format!("the guest stores {value} (")),
                "{store:#}"
            );
            if store["bytes"] == 8 {
                let shown = store["shown"].as_str().unwrap();
                assert!(
                    shown.starts_with(&format!("[{}]", store["index"])),
                    "{store:#}"
                );
                assert!(shown.ends_with("\u{2190} stored"), "{store:#}");
            }
            let output = analyzer()
                .arg("explain")
                .arg(&trace)
                .args(["--json", "--seq", &store["seq"].to_string()])
                .output()
                .unwrap();
            let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
            let cleared = explained["changed_total"].as_u64().expect("a count");
            let zapped = explained["zapped"].as_array().map_or(0, Vec::len);
            removed += cleared;
            let words = match cleared {
                // Its entries went with it.
                _ if zapped > 0 => format!(" {zapped} shadow page"),
                0 => "no shadow entry changed".to_owned(),
                1 => "the next record removes 1 shadow entry".to_owned(),
                more => format!("the next records remove {more} shadow entries"),
            };
            assert!(said.contains(&words), "{name}: {cleared}: {store:#}");
        }
    }
    assert!(removed > 0);
}

/// Applies what the page has for print, as the browser does for paper.
const PRINT: &str = r#"
  for (const sheet of document.styleSheets) for (const rule of [...sheet.cssRules]) {
    if (!(rule instanceof CSSMediaRule) || rule.media.mediaText !== "print") continue;
    for (const of of [...rule.cssRules]) sheet.insertRule(of.cssText, sheet.cssRules.length);
  }
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const onPaper = true;"#;
const SCREEN: &str = "const onPaper = false;";

/// Words that are hard to tell from what is below them (WCAG 2: 4.5), and what is wider than the
/// page. On a screen, what scrolls may be wider.
const READ: &str = r#"
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const dim = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let words = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || node.closest("script,style,title,noscript,[hidden]") || !node.checkVisibility()) continue;
    const style = getComputedStyle(node), ink = rgb(node.closest("svg") ? style.fill : style.color);
    if (ink[3] === 0) continue;
    const [high, low] = [light(ink), light(ground(node))].sort((a, b) => b - a), ratio = (high + 0.05) / (low + 0.05);
    words += 1;
    if (ratio < 4.5) dim.add(`${ratio.toFixed(2)} ${node.tagName} ${text.slice(0, 40)}`);
  }
  const page = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() && !node.closest("svg *")
    && node.getBoundingClientRect().right > page + 1 && (onPaper || !node.closest(".scroll,pre")))
    .map((node) => `${node.tagName} ${node.textContent.trim().slice(0, 40)}`);
  return { words, dim: [...dim], wide, dark: matchMedia("(prefers-color-scheme: dark)").matches };"#;

/// In light and dark, on a phone and on paper: a report, two side by side, a sweep's page, the lesson.
#[test]
#[ignore = "needs Debian's chromium; `make test` runs it"]
fn every_page_reads_in_light_and_dark_on_a_phone_and_on_paper() {
    let folder = tempfile::tempdir().unwrap();
    let one = report(folder.path(), &[&recording("loads")], &[]);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let two = report(&other, &[&recording("boot-lab"), &recording("unsync")], &[]);
    let lesson = folder.path().join("lesson.html");
    let mut made = analyzer();
    made.args(["lesson", "-o"]).arg(&lesson);
    assert!(made.status().unwrap().success());
    let sweep = super::sweep::page(folder.path());
    let dark = "--blink-settings=preferredColorScheme=0";
    for page in [one, two, lesson, sweep] {
        for (width, options, before) in [
            (1280, &[][..], SCREEN),
            (1280, &[dark][..], SCREEN),
            (390, &[], SCREEN),
            // A4 without its margins.
            (704, &[], PRINT),
        ] {
            let seen = drive_with(&page, width, options, &format!("{before}{READ}"));
            let at = format!("{} at {width} px {options:?}", page.display());
            assert!(seen["words"].as_u64() > Some(50), "{at}: {seen:#}");
            assert_eq!(seen["dark"], !options.is_empty(), "{at}");
            assert_eq!(seen["dim"], serde_json::json!([]), "{at}");
            assert_eq!(seen["wide"], serde_json::json!([]), "{at}");
        }
    }
}
