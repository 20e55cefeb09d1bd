//! A workload at several points, several times each, in an order that a drift of the machine
//! cannot take for a difference between points.
//!
//! Every round runs each point once, in a new random order. Each run is a process of its own: it
//! gives up root for good.

mod index;
mod points;

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;

pub use index::Index;
use index::{Of, Run};
pub use points::{Over, Point, folder, points};

use crate::{privileges, terminal};

/// What to run.
#[derive(Debug)]
pub struct Sweep {
    /// Name of the workload.
    pub workload: String,
    /// Parameters that are the same in all points.
    pub params: Vec<(String, String)>,
    /// What is swept over.
    pub over: Vec<Over>,
    /// Its points.
    pub points: Vec<Point>,
    /// Runs of each point.
    pub repeat: u32,
    /// Runs of each point before these, not recorded.
    pub warm_up: u32,
    /// Seed of the order.
    pub seed: u64,
    /// Further arguments of each `run`.
    pub arguments: Vec<String>,
    /// Folder to create.
    pub output: PathBuf,
    /// Say nothing of each run.
    pub quiet: bool,
}

impl Sweep {
    /// Runs all. A run that fails is in the index, and the others run all the same. `cancel` ends
    /// the sweep after the run that it interrupts.
    pub fn run(&self, cancel: &AtomicBool) -> anyhow::Result<Index> {
        make(&self.output)?;
        for point in &self.points {
            make(&self.output.join(folder(point)))?;
        }
        let mut index = self.index();
        index.write(&self.output)?;
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut numbers: Vec<_> = (0..self.points.len()).collect();
        let mut order = 0;
        let rounds = self.warm_up + self.repeat;
        for round in 0..rounds {
            random.shuffle(&mut numbers);
            for &number in &numbers {
                let Some(point) = self.points.get(number) else {
                    continue;
                };
                if cancel.load(Ordering::Acquire) {
                    return self.end(index, "interrupted");
                }
                let recorded = round.checked_sub(self.warm_up);
                let place = u64::from(round) * self.points.len() as u64 + order + 1;
                order = (order + 1) % self.points.len() as u64;
                let all = u64::from(rounds) * self.points.len() as u64;
                let trace = recorded.map(|run| format!("{}/{}.trace", folder(point), run + 1));
                let which = format!("{place} of {all}: {}", folder(point));
                if !self.quiet {
                    let warms = if trace.is_none() { " (warm-up)" } else { "" };
                    terminal::say(format_args!("{which}{warms}"));
                }
                let status = self.one(point, trace.as_deref())?;
                let outcome = outcome(status, cancel.load(Ordering::Acquire));
                if let (Some(trace), Some(of)) = (trace, index.points.get_mut(number)) {
                    of.runs.push(Run {
                        trace,
                        order: place - u64::from(self.warm_up) * self.points.len() as u64,
                        outcome,
                        exit_code: status.code(),
                    });
                    index.write(&self.output)?;
                }
            }
        }
        match cancel.load(Ordering::Acquire) {
            true => self.end(index, "interrupted"),
            false => self.end(index, "done"),
        }
    }

    fn end(&self, mut index: Index, end: &'static str) -> anyhow::Result<Index> {
        index.end = Some(end);
        index.write(&self.output)?;
        Ok(index)
    }

    fn index(&self) -> Index {
        let map = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        Index {
            schema: 1,
            workload: self.workload.clone(),
            params: map(&self.params),
            over: self.over.clone(),
            repeat: self.repeat,
            warm_up: self.warm_up,
            seed: self.seed,
            end: None,
            points: self
                .points
                .iter()
                .map(|point| Of {
                    folder: folder(point),
                    params: map(point),
                    runs: Vec::new(),
                })
                .collect(),
        }
    }

    /// One run in its own process; without `trace` it warms up. Only its errors are shown.
    fn one(&self, point: &Point, trace: Option<&str>) -> anyhow::Result<ExitStatus> {
        let program = env::current_exe().context("while looking for this program")?;
        let mut command = Command::new(&program);
        if let Some(name) = env::args_os().next() {
            command.arg0(name);
        }
        command.args(["run", &self.workload]);
        for (name, value) in self.params.iter().chain(point) {
            command.arg("--param").arg(format!("{name}={value}"));
        }
        command.args(&self.arguments);
        match trace {
            Some(trace) => command.arg("-o").arg(self.output.join(trace)),
            None => command.arg("--untraced"),
        };
        command
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("while running {}", program.display()))
    }
}

fn outcome(status: ExitStatus, cancelled: bool) -> &'static str {
    match (status.success(), cancelled) {
        (true, false) => "done",
        (_, true) => "interrupted",
        (false, false) => "failed",
    }
}

/// Makes a folder as the user for whom the traces are: once that is the user's, another user's place
/// may be behind each name in it.
fn make(folder: &Path) -> anyhow::Result<()> {
    let made = privileges::as_user(|| fs::create_dir(folder))?;
    made.with_context(|| format!("while making the folder {}", folder.display()))
}
