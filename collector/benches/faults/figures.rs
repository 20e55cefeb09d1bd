//! Everything that was measured: what `--json` prints.

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    guest::Run, machine::Machine, moments::Moments, programs::Programs, recorder::Recorder,
    replay::Replay, spread::Spread, stops::Stops,
};

#[derive(Debug, Serialize)]
pub struct Figures {
    pub machine: Machine,
    pub pages: u64,
    pub rounds: u32,
    /// Phase `touch`, ns a fault.
    pub fault_ns: Turns,
    /// Phase `map`, where the guest's kernel is emulated and nothing faults, ns a page.
    pub emulated_page_ns: Turns,
    /// Events of one run.
    pub tracefs_events: u64,
    /// Events lost in all runs.
    pub tracefs_lost: u64,
    pub sequential: Disk,
    pub random: Disk,
    /// In the rounds.
    pub lost: Loss,
    /// While every core was busy with something else too.
    pub lost_busy: Loss,
    pub recorder: Recorder,
    pub programs: Programs,
    pub replay: Replay,
    /// Absent without an analyzer.
    pub moments: Option<Moments>,
    pub stops: Stops,
    pub targets: Vec<Target>,
}

/// One thing measured in turns.
#[derive(Debug, Serialize)]
pub struct Turns {
    pub untraced: Spread,
    pub traced: Compared,
    pub tracefs: Compared,
}

/// A way of tracing, against the untraced run of the same round.
#[derive(Debug, Serialize)]
pub struct Compared {
    pub spread: Spread,
    pub added: Spread,
    pub ratio: Spread,
}

impl Turns {
    /// One value a round each.
    pub fn new(untraced: &[f64], traced: &[f64], tracefs: &[f64]) -> Self {
        Self {
            untraced: Spread::of(untraced.iter().copied()),
            traced: Compared::new(traced, untraced),
            tracefs: Compared::new(tracefs, untraced),
        }
    }
}

impl Compared {
    fn new(values: &[f64], untraced: &[f64]) -> Self {
        let pairs = || values.iter().zip(untraced);
        Self {
            spread: Spread::of(values.iter().copied()),
            added: Spread::of(pairs().map(|(value, untraced)| value - untraced)),
            ratio: Spread::of(pairs().map(|(value, untraced)| value / untraced)),
        }
    }
}

/// A trace on disk: its segments, all kinds of record together.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Disk {
    pub faults: u64,
    pub bytes: u64,
    pub bytes_a_fault: f64,
}

impl Disk {
    pub fn of(run: &Run) -> anyhow::Result<Self> {
        let recorded = run
            .recorded
            .as_ref()
            .context("a traced run recorded nothing")?;
        let (faults, bytes) = (recorded.faults, recorded.bytes);
        Ok(Self {
            faults,
            bytes,
            bytes_a_fault: bytes as f64 / faults as f64,
        })
    }
}

/// Records that did not fit into the ring.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Loss {
    pub records: u64,
    pub lost: u64,
}

impl Loss {
    pub fn of<'a>(runs: impl IntoIterator<Item = &'a Run>) -> anyhow::Result<Self> {
        runs.into_iter().try_fold(Self::default(), |sum, run| {
            let recorded = run
                .recorded
                .as_ref()
                .context("a traced run recorded nothing")?;
            Ok(Self {
                records: sum.records + recorded.records,
                lost: sum.lost + recorded.lost,
            })
        })
    }
}

/// One limit, and whether it was met.
#[derive(Debug, Serialize)]
pub struct Target {
    pub what: &'static str,
    pub reach: String,
    pub measured: String,
    /// `None` where there is no figure.
    pub met: Option<bool>,
}
