//! Time and memory of the analyzer over about ten million records: part of `make bench`.
//!
//! Every command has its turn in each round, so that a machine that slows down slows down all of
//! them. Fails where a command takes more than twice the CPU time of `verify`, as the median of the
//! ratios within each round, or more than 1 GiB at a time.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places among a few measurements fit"
)]

mod process;
#[path = "../faults/session.rs"]
mod session;
#[path = "../../src/signals.rs"]
#[allow(dead_code, reason = "a session knows Ctrl-C only")]
mod signals;
#[path = "../faults/spread.rs"]
mod spread;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use serde::Serialize;
use trace::Meta;

use session::{go_on, progress};
use spread::Spread;

const COLLECTOR: &str = env!("CARGO_BIN_EXE_collector");
/// Most that a command may take, as a multiple of `verify`.
const TIMES_VERIFY: f64 = 2.0;
/// Most memory of a command at a time, bytes.
const MEMORY: u64 = 1 << 30;

/// What is recorded: many dirty-log passes, much of everything, large tables.
const WORKLOADS: [&[&str]; 3] = [
    &["dirty", "--param=passes=13000"],
    &["mixed", "--param=steps=110000"],
    &["linear", "--param=pages=524288", "--param=write=false"],
];

/// What is measured; `OUT` stands for a file to write. The first one is what the others are
/// compared with.
const COMMANDS: [&[&str]; 15] = [
    &["verify"],
    &["summary"],
    &["report", "-o", "OUT"],
    &["refaults"],
    &["pathologies"],
    &["audit"],
    &["find", "--gva", "0x8000001000"],
    &["top", "--by", "cr3"],
    &["top", "--by", "gva-range"],
    &["top", "--by", "guest-table"],
    &["top", "--by", "cause"],
    &["faults"],
    &["changes"],
    &["timeline"],
    &["memory"],
];

/// The command line, after `cargo bench --profile release --bench large --`.
#[derive(Debug, Parser)]
#[command(about = "What the analyzer takes for about ten million records: time and memory")]
struct Args {
    /// How often each command has its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measure these traces, and record none
    #[arg(long, num_args = 1..)]
    trace: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one command took.
#[derive(Debug, Serialize)]
struct Taken {
    command: String,
    /// CPU time, s.
    seconds: Spread,
    /// CPU time by that of `verify` in the same round.
    times_verify: Spread,
    /// Most memory at a time, bytes.
    memory: u64,
}

impl Taken {
    fn is_too_much(&self) -> bool {
        self.times_verify.median > TIMES_VERIFY || self.memory > MEMORY
    }
}

/// What all commands took for one trace.
#[derive(Debug, Serialize)]
struct Measured {
    trace: String,
    records: u64,
    commands: Vec<Taken>,
}

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all commands are within the limits.
fn measure(args: &Args) -> anyhow::Result<bool> {
    session::end_on_ctrl_c()?;
    let analyzer = Path::new(COLLECTOR).with_file_name("analyzer");
    ensure!(
        analyzer.is_file(),
        "{} is not there: `cargo build --release` builds it",
        analyzer.display()
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .context("while making a folder for traces")?;
    let mut all = Vec::new();
    for trace in &args.trace {
        all.push(of_trace(&analyzer, trace, folder.path(), args.rounds)?);
    }
    if args.trace.is_empty() {
        for workload in WORKLOADS {
            let trace = record(workload, folder.path())?;
            all.push(of_trace(&analyzer, &trace, folder.path(), args.rounds)?);
            fs::remove_dir_all(&trace)
                .with_context(|| format!("while removing {}", trace.display()))?;
        }
    }
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&all)?),
        false => all.iter().for_each(print),
    }
    let mut too_much = all.iter().flat_map(|of| &of.commands);
    Ok(!too_much.any(Taken::is_too_much))
}

fn record(workload: &[&str], folder: &Path) -> anyhow::Result<PathBuf> {
    progress(&format!("recording {}", workload.join(" ")));
    let trace = folder.join("large.trace");
    let status = Command::new(COLLECTOR)
        .arg("run")
        .args(workload)
        .args(["--ring-mib", "256", "--timeout", "1800", "--output"])
        .arg(&trace)
        .env_remove("SUDO_UID")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("while starting {COLLECTOR}"))?;
    ensure!(status.success(), "`collector run` ended with {status}");
    Ok(trace)
}

fn of_trace(analyzer: &Path, trace: &Path, folder: &Path, rounds: u32) -> anyhow::Result<Measured> {
    let meta = fs::read(trace.join("meta.json"))
        .with_context(|| format!("while reading the metadata of {}", trace.display()))?;
    let meta: Meta = serde_json::from_slice(&meta).context("in meta.json")?;
    let words = |command: &[&str]| command.join(" ").replace(" -o OUT", "");
    let mut seconds = COMMANDS.map(|_| Vec::new());
    let mut memory = COMMANDS.map(|_| 0);
    for round in 0..rounds {
        progress(&format!("round {} of {rounds}", round + 1));
        for (at, command) in COMMANDS.iter().enumerate() {
            go_on()?;
            let (cpu_s, bytes) = run(analyzer, trace, command, &folder.join("out.html"))
                .with_context(|| format!("`analyzer {}`", words(command)))?;
            seconds[at].push(cpu_s);
            memory[at] = bytes.max(memory[at]);
        }
    }
    let ratios = |of: &[f64]| {
        of.iter()
            .zip(&seconds[0])
            .map(|(s, verify)| s / verify)
            .collect()
    };
    let commands = COMMANDS.iter().enumerate().map(|(at, command)| {
        let ratios: Vec<f64> = ratios(&seconds[at]);
        Taken {
            command: words(command),
            seconds: Spread::of(seconds[at].iter().copied()),
            times_verify: Spread::of(ratios),
            memory: memory[at],
        }
    });
    let workload = meta.workload.map(|workload| {
        let params = workload.params.into_iter();
        let params = params.map(|(name, value)| format!(" {name}={value}"));
        workload.name + &params.collect::<String>()
    });
    Ok(Measured {
        trace: workload.unwrap_or_else(|| trace.display().to_string()),
        records: meta.end.context("the recording has no end")?.records,
        commands: commands.collect(),
    })
}

/// CPU time of one command, s, and its peak memory, bytes.
fn run(analyzer: &Path, trace: &Path, command: &[&str], out: &Path) -> anyhow::Result<(f64, u64)> {
    let (name, options) = command.split_first().context("no command")?;
    let options = options.iter().map(|word| match *word {
        "OUT" => out.as_os_str(),
        word => OsStr::new(word),
    });
    let mut process = Command::new(analyzer);
    process.arg(name).arg(trace).args(options);
    process.stdin(Stdio::null()).stdout(Stdio::null());
    let used = process::run(&mut process)?;
    Ok((used.cpu_s, used.memory))
}

fn print(of: &Measured) {
    println!("{}: {} records", of.trace, of.records);
    println!(
        "  {:<24}{:>10}{:>10}{:>16}{:>12}",
        "command", "CPU time", "x verify", "from, to", "peak memory"
    );
    for taken in &of.commands {
        let [low, high] = taken.times_verify.range;
        println!(
            "  {:<24}{:>8.2} s{:>10.2}{:>16}{:>8} MiB{}",
            taken.command,
            taken.seconds.median,
            taken.times_verify.median,
            format!("{low:.2} .. {high:.2}"),
            taken.memory >> 20,
            if taken.is_too_much() {
                "  too much"
            } else {
                ""
            }
        );
    }
    println!();
}
