//! Whether pages can be read.

use super::{drive_with, report};
use crate::{
    made_up::sweep,
    support::{analyzer, recording},
};

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
  // Numbers, names and addresses in more than one line.
  const broken = [...document.querySelectorAll("td.n,td.mono")].filter((node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    return new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size > 1;
  }).map((node) => node.textContent);
  return { words, broken, dim: [...dim], wide, dark: matchMedia("(prefers-color-scheme: dark)").matches };"#;

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
    let sweep = sweep::page(folder.path());
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
            assert_eq!(seen["broken"], serde_json::json!([]), "{at}");
        }
    }
}
