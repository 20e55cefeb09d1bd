//! What tracing costs, measured in turns in one run: `make bench`.
//!
//! ```text
//! main      what is measured, and in which order     session   progress and Ctrl-C
//! guest     one run of `linear`                      tracefs   a tracer to compare with
//! programs  the kernel's measure of the probes       recorder  its CPU time
//! replay    the analyzer's speed                     moments   `table --at` in a long trace
//! stops     keyframes, start                         machine   where and when
//! spread    medians and quartiles
//! figures   everything that was measured             targets   the limits it is judged by
//! text      the figures as a table
//! ```
//!
//! The ways of tracing take turns, so that a machine that slows down slows down all of them, and
//! what a way adds is the median of the differences within each round.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "counts and pages of a benchmark fit"
)]

mod figures;
mod guest;
mod machine;
mod moments;
mod programs;
mod recorder;
mod replay;
mod session;
#[path = "../../src/signals.rs"]
#[allow(dead_code, reason = "a session knows Ctrl-C only")]
mod signals;
mod spread;
mod stops;
mod targets;
mod text;
mod tracefs;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, ensure};
use clap::Parser;

use figures::{Disk, Figures, Loss, Turns};
use guest::{Guest, Pattern, Run};
use machine::Machine;
use session::progress;
use tracefs::Instance;

/// A number from `low` to `high`.
fn within(low: u64, high: u64) -> clap::builder::RangedU64ValueParser {
    clap::builder::RangedU64ValueParser::new().range(low..=high)
}

/// The command line, after `cargo bench --profile release --bench faults --`.
#[derive(Debug, Parser)]
#[command(about = "What tracing costs: ns a fault, bytes a fault, lost records, replay")]
struct Args {
    /// How often each way of tracing has its turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Pages that the guest touches, each of them one fault
    #[arg(long, default_value_t = 57_344, value_parser = within(4096, 524_288))]
    pages: u64,
    /// Faults in the trace that the analyzer replays
    #[arg(long, default_value_t = 524_288, value_parser = within(1024, 524_288))]
    replay_pages: u64,
    /// Passes over the dirty log in the long trace that `table --at` is asked of
    #[arg(long, default_value_t = 9000, value_parser = within(16, 1_000_000))]
    table_passes: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match measure(&args).and_then(|figures| print(&figures, args.json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Order of the turns: see [`turn`].
const WAYS: [Way; 3] = [Way::Untraced, Way::Traced, Way::Tracefs];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Untraced,
    Traced,
    Tracefs,
}

fn measure(args: &Args) -> anyhow::Result<Figures> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "tracing needs root: `make bench` asks for it"
    );
    session::end_on_ctrl_c()?;
    let load = machine::load()?;
    // Every run inherits it, so that other work on this machine disturbs less.
    let niceness = rustix::process::nice(-20).unwrap_or(0);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .context("while making a folder for traces")?;

    let sequential = Guest {
        pages: args.pages,
        pattern: Pattern::Sequential,
        folder: folder.path(),
    };
    sequential
        .untraced()
        .context("the first run, not measured")?;
    let rounds = (0..args.rounds)
        .map(|round| take_turns(round, args, &sequential))
        .collect::<Result<Vec<_>, _>>()?;

    progress("random, every core busy, the recorder, the kernel's own measure");
    let random = Guest {
        pattern: Pattern::Random,
        ..sequential
    };
    let random = Disk::of(&random.traced("random")?)?;
    let busy = busy(|| sequential.traced("busy"))?;
    let recorder = recorder::measure(&sequential)?;
    let programs = programs::measure(&sequential)?;
    let machine = Machine::of(&folder.path().join("busy.trace"), niceness, load)?;

    progress("replay");
    let long = Guest {
        pages: args.replay_pages,
        ..sequential
    };
    let replay = replay::measure(&long)?;

    let moments = moments::measure(args.table_passes, folder.path())?;

    progress("keyframes, start");
    let stops = stops::measure(folder.path())?;

    let of = |way: Way| {
        rounds
            .iter()
            .flatten()
            .filter(move |(tried, _)| *tried == way)
            .map(|(_, run)| run)
    };
    let last = of(Way::Traced).next_back().context("no traced run")?;
    let turns = |of_run: fn(&Run) -> f64| {
        let [untraced, traced, tracefs] = WAYS.map(|way| of(way).map(of_run).collect::<Vec<_>>());
        Turns::new(&untraced, &traced, &tracefs)
    };
    let figures = Figures {
        machine,
        pages: args.pages,
        rounds: args.rounds,
        fault_ns: turns(|run| run.touch_ns),
        emulated_page_ns: turns(|run| run.map_ns),
        tracefs_events: of(Way::Tracefs)
            .filter_map(|run| run.events)
            .map(|events| events.recorded)
            .max()
            .unwrap_or(0),
        tracefs_lost: of(Way::Tracefs)
            .filter_map(|run| run.events)
            .map(|events| events.lost)
            .sum(),
        sequential: Disk::of(last)?,
        random,
        lost: Loss::of(of(Way::Traced))?,
        lost_busy: Loss::of([&busy])?,
        recorder,
        programs,
        replay,
        moments,
        stops,
        targets: Vec::new(),
    };
    let targets = targets::judge(&figures);
    Ok(Figures { targets, ..figures })
}

/// One round: every way once, in an order that changes from round to round.
fn take_turns(round: u32, args: &Args, guest: &Guest<'_>) -> anyhow::Result<Vec<(Way, Run)>> {
    progress(&format!("round {} of {}", round + 1, args.rounds));
    turn(round)
        .into_iter()
        .map(|way| Ok((way, one(way, guest)?)))
        .collect()
}

/// Each way comes first, in the middle and last equally often, and as often before as after
/// each other: all six orders, one after another.
fn turn(round: u32) -> [Way; 3] {
    let mut ways = WAYS;
    ways.rotate_left(round as usize % WAYS.len());
    if round % 2 == 1 {
        ways.reverse();
    }
    ways
}

fn one(way: Way, guest: &Guest<'_>) -> anyhow::Result<Run> {
    match way {
        Way::Untraced => guest.untraced(),
        Way::Traced => guest.traced("turn"),
        Way::Tracefs => {
            let instance = Instance::make(guest.pages)?;
            let mut run = guest.followed_by(&instance)?;
            run.events = Some(instance.events()?);
            Ok(run)
        }
    }
}

/// Runs `work` while every core has something else to do.
fn busy<T>(work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn print(figures: &Figures, json: bool) -> anyhow::Result<()> {
    let text = if json {
        serde_json::to_string_pretty(figures)? + "\n"
    } else {
        text::table(figures)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .context("while printing")
}
