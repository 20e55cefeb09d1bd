//! The lesson.

use super::drive;
use crate::support::analyzer;

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
