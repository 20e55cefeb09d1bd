//! Pages in a real browser: every figure has a size, the script does what it should by mouse and by
//! keyboard, nothing is logged, nothing leaves.

mod lesson;
mod reads;
mod report;
mod slider;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::support::analyzer;

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
