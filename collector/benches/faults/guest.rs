//! One run of the workload `linear`, and what its phases took.
//!
//! The guest reads its time-stamp counter when a phase begins, so starting the collector, loading
//! the probes and writing the last segment are not in it.

use std::{
    fs, io,
    mem::MaybeUninit,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use trace::Meta;

use crate::{
    session::go_on,
    tracefs::{Events, Instance},
};

pub const COLLECTOR: &str = env!("CARGO_BIN_EXE_collector");

/// Which guest to run.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    pub pages: u64,
    pub pattern: Pattern,
    /// Where traces go.
    pub folder: &'a Path,
}

/// The order in which it touches its pages.
#[derive(Clone, Copy)]
pub enum Pattern {
    Sequential,
    Random,
}

/// The result of a run.
pub struct Run {
    /// ns a page of the phase `touch`: CPL 3 touches each page once, a shadow fault each.
    pub touch_ns: f64,
    /// ns a page of the phase `map`: the guest's kernel fills its tables, and no page faults.
    pub map_ns: f64,
    /// CPU time of the whole process outside the kernel, from its start to its end, ns.
    pub user_ns: f64,
    /// What the collector recorded.
    pub recorded: Option<Recorded>,
    /// What tracefs recorded.
    pub events: Option<Events>,
}

/// The summary that the collector prints of its trace.
#[derive(Debug, Deserialize)]
pub struct Recorded {
    pub trace: PathBuf,
    pub faults: u64,
    pub records: u64,
    pub lost: u64,
    /// Of all segments.
    pub bytes: u64,
}

impl Recorded {
    /// `meta.json`.
    pub fn meta(&self) -> anyhow::Result<Meta> {
        meta(&self.trace)
    }
}

/// `meta.json` of a trace.
pub fn meta(trace: &Path) -> anyhow::Result<Meta> {
    let path = trace.join("meta.json");
    let text = fs::read(&path).with_context(|| format!("while reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("in {}", path.display()))
}

/// What `collector run --json` prints.
#[derive(Debug, Deserialize)]
struct Outcome {
    marks: Vec<Mark>,
    tsc_khz: Option<u32>,
    recorded: Option<Recorded>,
}

#[derive(Debug, Deserialize)]
struct Mark {
    name: String,
    guest_tsc: u64,
}

impl Guest<'_> {
    /// Not traced.
    pub fn untraced(&self) -> anyhow::Result<Run> {
        self.run(self.command().arg("--untraced"))
    }

    /// Recorded by the collector, into a trace that replaces an earlier one of this name.
    pub fn traced(&self, name: &str) -> anyhow::Result<Run> {
        let trace = self.folder.join(format!("{name}.trace"));
        if trace.exists() {
            fs::remove_dir_all(&trace)
                .with_context(|| format!("while removing {}", trace.display()))?;
        }
        self.run(self.command().arg("--output").arg(trace))
    }

    /// Recorded by tracefs.
    pub fn followed_by(&self, instance: &Instance) -> anyhow::Result<Run> {
        let mut command = self.command();
        instance.follow(command.arg("--untraced"))?;
        let run = self.run(&mut command);
        instance.stop()?;
        run
    }

    fn command(&self) -> Command {
        let pattern = match self.pattern {
            Pattern::Sequential => "sequential",
            Pattern::Random => "random",
        };
        let mut command = Command::new(COLLECTOR);
        command
            .args(["run", "linear", "--json"])
            .arg(format!("--param=pages={}", self.pages))
            .arg(format!("--param=pattern={pattern}"))
            // The traces stay root's, in a folder of root's.
            .env_remove("SUDO_UID")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        command
    }

    fn run(&self, command: &mut Command) -> anyhow::Result<Run> {
        go_on()?;
        let before = user_ns()?;
        let output = command
            .output()
            .with_context(|| format!("while starting {COLLECTOR}"))?;
        let user_ns = user_ns()? - before;
        go_on()?;
        ensure!(
            output.status.success(),
            "`collector run linear` ended with {}",
            output.status
        );
        let outcome: Outcome =
            serde_json::from_slice(&output.stdout).context("in the collector's output")?;
        Ok(Run {
            touch_ns: outcome.ns("touch", "check")? / self.pages as f64,
            map_ns: outcome.ns("map", "touch")? / self.pages as f64,
            user_ns,
            recorded: outcome.recorded,
            events: None,
        })
    }
}

impl Outcome {
    /// Time from the begin of one phase to the begin of another.
    fn ns(&self, from: &str, to: &str) -> anyhow::Result<f64> {
        let khz = self
            .tsc_khz
            .context("KVM does not report the frequency of the guest's clock")?;
        let tsc = |name| {
            let mark = self.marks.iter().find(|mark| mark.name == name);
            mark.map(|mark| mark.guest_tsc)
                .with_context(|| format!("the guest has not marked `{name}`"))
        };
        let cycles = tsc(to)?
            .checked_sub(tsc(from)?)
            .context("the guest's clock went backwards")?;
        Ok(cycles as f64 * 1e6 / f64::from(khz))
    }
}

/// User CPU time of all children so far.
fn user_ns() -> anyhow::Result<f64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is room for one.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error()).context("getrusage");
    }
    // SAFETY: plain numbers, valid as zeroes, and filled in.
    let time = unsafe { usage.assume_init() }.ru_utime;
    Ok(time.tv_sec as f64 * 1e9 + time.tv_usec as f64 * 1e3)
}
