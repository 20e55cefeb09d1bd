//! The report in a real browser: every figure has a size, nothing is logged, nothing leaves.

use std::{fs, path::Path, process::Command};

use maker::{Maker, Shape, Vms};

use crate::support::analyzer;

/// Counts figures that take room on the page and writes the result into the title.
const PROBE: &str = r#"<script>
window.addEventListener("load", () => {
  const figures = [...document.querySelectorAll("figure svg")];
  const boxes = figures.map((svg) => svg.getBoundingClientRect());
  const shown = boxes.filter((box) => box.width > 100 && box.height > 50).length;
  const wide = document.documentElement.scrollWidth > window.innerWidth + 1;
  const loaded = performance.getEntriesByType("resource").length;
  document.title = `shown ${shown} of ${boxes.length}, too wide: ${wide}, loaded: ${loaded}`;
});
</script></body>"#;

fn chromium(folder: &Path, page: &Path) -> (String, String, String) {
    let net = folder.join("net.json");
    let output = Command::new("/usr/bin/chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
        ])
        .args([
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--disable-extensions",
        ])
        .args([
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--window-size=1140,900",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!("--log-net-log={}", net.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (
        text(output.stdout),
        text(output.stderr),
        fs::read_to_string(net).unwrap_or_default(),
    )
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
    let page = folder.path().join("page.html");
    let done = analyzer()
        .arg("report")
        .args([&trace, &two])
        .arg("-o")
        .arg(&page)
        .status()
        .unwrap();
    assert!(done.success());
    let html = fs::read_to_string(&page).unwrap();
    assert!(!html.contains("<script"), "the report itself has no script");
    fs::write(&page, html.replace("</body>", PROBE)).unwrap();

    let (dom, log, net) = chromium(folder.path(), &page);
    assert!(
        dom.contains("<title>shown 18 of 18, too wide: false, loaded: 0</title>"),
        "{}",
        dom.lines().take(8).collect::<String>()
    );
    assert!(!log.contains("CONSOLE"), "{log}");
    // Every request is logged with its address. The browser itself sends some to Google, whatever is
    // forbidden.
    assert!(
        net.contains("constants"),
        "no log of the network was written"
    );
    let addresses = net
        .split("\"url\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    let own = |host: &str| host.ends_with(".google.com") || host.ends_with(".googleapis.com");
    let host = |address: &str| address.split('/').nth(2).unwrap_or_default().to_owned();
    let of_page: Vec<_> = addresses
        .filter(|address| address.starts_with("http") && !own(&host(address)))
        .collect();
    assert!(of_page.is_empty(), "{of_page:?}");
}
