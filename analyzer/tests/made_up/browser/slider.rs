//! The tables at any moment.

use std::path::Path;

use serde_json::Value;

use super::{drive, report};
use crate::support::{analyzer, recording};

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
