//! The lesson.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use super::drive;
use crate::support::analyzer;

fn lesson(folder: &Path) -> PathBuf {
    let page = folder.join("lesson.html");
    let mut lesson = analyzer();
    lesson.args(["lesson", "-o"]).arg(&page);
    assert!(lesson.status().unwrap().success());
    page
}

/// What is marked of a guest's table and of the shadow table, and what a slide has, by arrow keys.
const DRIVE: &str = r#"
  const key = (key) => dispatchEvent(new KeyboardEvent("keydown",
    { key, bubbles: true, cancelable: true }));
  const box = (one) => one.getBoundingClientRect();
  const shown = () => [...document.querySelectorAll(".slide")].filter((one) => box(one).height > 0);
  const all = (what) => [...shown()[0].querySelectorAll(what)];
  const seen = { titles: [], marks: [], none: [], empty: [], smallest: 999, lowest: 0 };
  key("Home");
  for (let n = 0; n < 6; n++) {
    seen.titles.push(shown().map((one) => one.querySelector("h2").textContent).join());
    seen.marks.push(all(".tables table").map((table) =>
      ["td.changed", ".bits.changed"].map((what) => table.querySelectorAll(what).length)));
    seen.none.push(all("td.none").length);
    seen.empty.push(all("td.empty").length);
    all(".tables td, .tables th, .chain span, .here, details summary").forEach((cell) => {
      seen.smallest = Math.min(seen.smallest, parseFloat(getComputedStyle(cell).fontSize));
    });
    // What there is without an answer fits on the projector.
    seen.lowest = Math.max(seen.lowest, ...all("summary").map((one) => box(one).bottom));
    const tops = all(".tables").map((one) => box(one).top);
    seen.beside = (seen.beside ?? true) && all(".tables").every((one) => {
      const [left, right] = [...one.children].map(box);
      return left.top === right.top && left.right <= right.left;
    }) && tops[0] === tops[1];
    key("ArrowRight");
  }
  key("ArrowLeft");
  seen.hidden = all("details[open]").length;
  key("a");
  seen.asked = all("details[open]").length;
  key("W");
  seen.words = shown()[0].id;
  seen.end = document.body.getBoundingClientRect().bottom;
  seen.meanings = all("dt").map((one) => one.textContent).join();
  key("w");
  seen.back = shown()[0].id;
  seen.wide = document.documentElement.scrollWidth > innerWidth + 1;
  return seen;"#;

#[test]
#[ignore = "needs Debian's chromium; `make test` runs it"]
fn a_lesson_is_shown_by_arrow_keys() {
    let folder = tempfile::tempdir().unwrap();
    let page = lesson(folder.path());
    for (width, height) in [(1280, 720), (1920, 1080)] {
        let seen = drive(&page, width, DRIVE);
        let titles = seen["titles"].as_array().unwrap();
        for (number, title) in titles.iter().enumerate() {
            let title = title.as_str().unwrap();
            assert!(title.starts_with(&format!("{number}. ")), "{titles:?}");
        }
        // Cells, and bits in cells: guest and shadow table of `linear`, then of `demand`.
        assert_eq!(
            seen["marks"],
            json!([
                [[0, 0], [0, 0], [0, 0], [0, 0]],
                [[0, 0], [0, 0], [1, 0], [0, 0]],
                [[0, 0], [0, 0], [0, 0], [0, 0]],
                [[0, 0], [0, 0], [0, 0], [0, 0]],
                // Three tables that were made, each with its entry, and the entry that was there.
                [[0, 4], [7, 0], [0, 1], [1, 0]],
                [[0, 2], [2, 0], [2, 0], [2, 0]],
            ]),
            "{seen:#}"
        );
        assert_eq!(seen["none"], json!([3, 3, 3, 3, 0, 0]), "{seen:#}");
        assert_eq!(seen["empty"], json!([3, 2, 2, 2, 0, 0]), "{seen:#}");
        assert!(seen["smallest"].as_f64() >= Some(18.0), "{seen:#}");
        assert!(
            seen["lowest"].as_f64() <= Some(f64::from(height)),
            "{seen:#}"
        );
        // All words and the footer too.
        assert!(seen["end"].as_f64() <= Some(f64::from(height)), "{seen:#}");
        assert_eq!((&seen["hidden"], &seen["asked"]), (&0.into(), &2.into()));
        assert_eq!(
            (&seen["words"], &seen["back"]),
            (&"words".into(), &"step-5".into())
        );
        assert_eq!(
            (&seen["wide"], &seen["beside"]),
            (&false.into(), &true.into())
        );
    }
}

/// The steps with their questions, then the answers and the words.
#[test]
#[ignore = "needs Debian's chromium; `make test` runs it"]
fn the_handout_of_a_lesson_has_two_pages() {
    let folder = tempfile::tempdir().unwrap();
    let page = lesson(folder.path());
    let pdf = folder.path().join("lesson.pdf");
    let printed = Command::new("/usr/bin/chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args(["--no-pdf-header-footer", "--virtual-time-budget=20000"])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(format!("--print-to-pdf={}", pdf.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let pdf = std::fs::read(pdf).unwrap();
    let pdf = String::from_utf8_lossy(&pdf);
    let pages = pdf.matches("/Type /Page").count() - pdf.matches("/Type /Pages").count();
    assert_eq!(pages, 2);
}
