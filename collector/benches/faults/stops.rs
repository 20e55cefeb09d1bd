//! For how long keyframes stop a guest, and how long a recording takes that records next to nothing.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use trace::{Record, Trace};

use crate::{guest::COLLECTOR, session::go_on, spread::Spread};

/// Pages of the guest, each with a leaf table, and so a shadow page, of its own.
const PAGES: u32 = 20_000;
/// Number of recordings for the start.
const TIMES: usize = 5;

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Stops {
    /// Keyframes after the first, which also enters the pages into the maps of the probes.
    pub keyframes: usize,
    /// A shadow page, of the time for which a keyframe stops the guest.
    pub ns_a_page: Spread,
    /// From the start of the collector to its end, of a guest that ends at once: its first record
    /// comes before.
    pub run_s: Spread,
}

/// Records a guest with many shadow pages, and a few guests with few.
pub fn measure(folder: &Path) -> anyhow::Result<Stops> {
    let trace = folder.join("stops.trace");
    {
        let guest = Guest::touched()?;
        let pid = guest.0.id().to_string();
        let every = ["--keyframe-every=0.3", "--for=3"];
        record(&[&["attach", "--pid", &pid][..], &every].concat(), &trace)?;
    }
    let mut ns_a_page = Vec::new();
    for record in Trace::open(&trace)?.records() {
        if let Record::Mark(mark) = record?
            && let Some(ended) = mark.ends_keyframe()
            && ended.number > 0
            && ended.pages >= PAGES
            && let Some(stopped) = ended.stopped_ns
        {
            ns_a_page.push(stopped as f64 / f64::from(ended.pages));
        }
    }
    ensure!(
        !ns_a_page.is_empty(),
        "no keyframe has {PAGES} shadow pages"
    );
    let mut run_s = Vec::new();
    for _ in 0..TIMES {
        let begin = Instant::now();
        record(&["run", "linear", "--param=pages=64"], &trace)?;
        run_s.push(begin.elapsed().as_secs_f64());
    }
    Ok(Stops {
        keyframes: ns_a_page.len(),
        ns_a_page: Spread::of(ns_a_page),
        run_s: Spread::of(run_s),
    })
}

/// `examples/small_vmm`, killed at the end.
struct Guest(Child);

impl Guest {
    /// It has touched its pages, and waits.
    fn touched() -> anyhow::Result<Self> {
        go_on()?;
        let path = Path::new(COLLECTOR).with_file_name("examples");
        let mut command = Command::new(path.join("small_vmm"));
        let pages = PAGES.to_string();
        command.args(["--apart", "--pages", &pages, "--chunk", &pages]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().with_context(|| {
            format!("while starting {command:?}; `cargo build --release --examples` builds it")
        })?;
        let mut guest = Self(child);
        let out = guest.0.stdout.take().context("it has an output")?;
        let mut lines = BufReader::new(out).lines();
        let mut expect = |line: &str| match lines.next() {
            Some(Ok(found)) if found == line => Ok(()),
            found => Err(anyhow::anyhow!("{command:?} printed {found:?}, not {line}")),
        };
        expect("ready")?;
        let input = guest.0.stdin.as_mut().context("it has an input")?;
        input
            .write_all(b"go\n")
            .context("while starting its vCPU")?;
        expect("touched")?;
        Ok(guest)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself, with an error that it printed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn record(args: &[&str], trace: &Path) -> anyhow::Result<()> {
    go_on()?;
    if trace.exists() {
        fs::remove_dir_all(trace).with_context(|| format!("while removing {}", trace.display()))?;
    }
    let mut command = Command::new(COLLECTOR);
    command.args(args).arg("--output").arg(trace);
    // The traces stay root's, in a folder of root's.
    command.env_remove("SUDO_UID").stdin(Stdio::null());
    let output = command.stdout(Stdio::null()).output();
    let output = output.with_context(|| format!("while starting {COLLECTOR}"))?;
    go_on()?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
