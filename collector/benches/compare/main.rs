//! Two builds in turns: `make bench-compare OLD=...`.
//!
//! In each round each build has its turn at each thing, and which is first changes from round to
//! round. A ratio is that of the two in one round, so that a machine that slows down slows down
//! both. Both analyzers read the same traces, which the old build recorded.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of a benchmark fit"
)]

#[path = "../large/process.rs"]
mod process;
#[path = "../faults/session.rs"]
mod session;
#[path = "../../src/signals.rs"]
#[allow(dead_code, reason = "a session knows Ctrl-C only")]
mod signals;
#[path = "../faults/spread.rs"]
mod spread;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};

use session::{go_on, progress};
use spread::Spread;

const COLLECTOR: &str = env!("CARGO_BIN_EXE_collector");

/// What is recorded in each round.
const RECORDED: [(&str, &[&str]); 2] = [
    ("in order", &["linear", "--param=pages=57344"]),
    (
        "at random",
        &["linear", "--param=pages=57344", "--param=pattern=random"],
    ),
];

/// What the analyzers read: nearly all faults, and nearly all changes of entries.
const READ: [(&str, &[&str]); 2] = [
    ("linear", &["linear", "--param=pages=196608"]),
    ("dirty", &["dirty", "--param=passes=1500"]),
];

/// What they do with it; `OUT` stands for a file to write.
const COMMANDS: [&[&str]; 4] = [
    &["verify"],
    &["summary"],
    &["report", "-o", "OUT"],
    &["table", "--at", "end", "--gva", "0x8000001000"],
];

/// The command line, after `cargo bench --profile release --bench compare --`.
#[derive(Debug, Parser)]
#[command(about = "This build and an older one in turns: cost of recording, speed of the analyzer")]
struct Args {
    /// Folder with the older `collector` and `analyzer`
    old: PathBuf,
    /// How often each build has its turn at each thing
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A build: the folder of its programs.
struct Build(PathBuf);

impl Build {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        for program in ["collector", "analyzer"] {
            let path = folder.join(program);
            ensure!(path.is_file(), "there is no {}", path.display());
        }
        Ok(Self(folder.to_owned()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.0.join(program));
        command
            .env_remove("SUDO_UID")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }
}

/// One thing, measured with both builds in each round.
#[derive(Debug, Default)]
struct Thing {
    what: String,
    unit: &'static str,
    old: Vec<f64>,
    new: Vec<f64>,
}

/// The same, as it is printed.
#[derive(Debug, Serialize)]
struct Compared {
    what: String,
    unit: &'static str,
    old: Spread,
    new: Spread,
    /// New by old in the same round.
    ratio: Spread,
}

impl From<Thing> for Compared {
    fn from(thing: Thing) -> Self {
        let ratios = thing.new.iter().zip(&thing.old).map(|(new, old)| new / old);
        Self {
            ratio: Spread::of(ratios),
            old: Spread::of(thing.old.iter().copied()),
            new: Spread::of(thing.new.iter().copied()),
            what: thing.what,
            unit: thing.unit,
        }
    }
}

/// What was measured, by name, in the order in which it came first.
#[derive(Default)]
struct Things(Vec<Thing>);

impl Things {
    fn add(&mut self, what: String, unit: &'static str, is_new: bool, value: f64) {
        let at = self.0.iter().position(|thing| thing.what == what);
        let at = at.unwrap_or_else(|| {
            self.0.push(Thing {
                what,
                unit,
                ..Thing::default()
            });
            self.0.len() - 1
        });
        let thing = &mut self.0[at];
        match is_new {
            true => thing.new.push(value),
            false => thing.old.push(value),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match measure(&args).and_then(|things| print(things, args.json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> anyhow::Result<Things> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "recording needs root: `make bench-compare` asks for it"
    );
    session::end_on_ctrl_c()?;
    let new = Path::new(COLLECTOR)
        .parent()
        .context("a program without a folder")?;
    let builds = [Build::of(&args.old)?, Build::of(new)?];
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .context("while making a folder for traces")?;
    let mut traces = Vec::new();
    for (name, workload) in READ {
        progress(&format!("recording {name}"));
        let trace = folder.path().join(format!("{name}.trace"));
        record(&builds[0], workload, &trace, Stdio::null())?;
        traces.push((name, trace));
    }
    let mut things = Things::default();
    for round in 0..args.rounds {
        progress(&format!("round {} of {}", round + 1, args.rounds));
        let old_first = round.is_multiple_of(2);
        for is_new in [!old_first, old_first] {
            let build = &builds[usize::from(is_new)];
            for (name, workload) in RECORDED {
                recorded(build, is_new, name, workload, folder.path(), &mut things)?;
            }
        }
        for (name, trace) in &traces {
            for command in COMMANDS {
                for is_new in [!old_first, old_first] {
                    go_on()?;
                    let build = &builds[usize::from(is_new)];
                    let used = analyzed(build, command, trace, &folder.path().join("out.html"))?;
                    let what = format!("{} of {name}", command[0]);
                    things.add(format!("{what}: CPU"), "s", is_new, used.cpu_s);
                    let mib = used.memory as f64 / f64::from(1 << 20);
                    things.add(format!("{what}: memory"), "MiB", is_new, mib);
                }
            }
        }
    }
    Ok(things)
}

/// What `collector run --json` prints, as far as it is used.
#[derive(Debug, Deserialize)]
struct Outcome {
    marks: Vec<Mark>,
    tsc_khz: Option<u32>,
    recorded: Recorded,
}

#[derive(Debug, Deserialize)]
struct Mark {
    name: String,
    guest_tsc: u64,
}

#[derive(Debug, Deserialize)]
struct Recorded {
    faults: u64,
    lost: u64,
    bytes: u64,
}

/// One recording: what it costs the guest, the recorder and the disk.
fn recorded(
    build: &Build,
    is_new: bool,
    name: &str,
    workload: &[&str],
    folder: &Path,
    things: &mut Things,
) -> anyhow::Result<()> {
    go_on()?;
    let (trace, out) = (folder.join("turn.trace"), folder.join("turn.json"));
    let file = File::create(&out).with_context(|| format!("while making {}", out.display()))?;
    let used = record(build, workload, &trace, file.into())?;
    fs::remove_dir_all(&trace).with_context(|| format!("while removing {}", trace.display()))?;
    let outcome = fs::read(&out).context("while reading what the collector printed")?;
    let outcome: Outcome = serde_json::from_slice(&outcome).context("what it printed")?;
    ensure!(outcome.recorded.lost == 0, "records were lost");
    let faults = outcome.recorded.faults as f64;
    let tsc = |name: &str| outcome.marks.iter().find(|mark| mark.name == name);
    if let (Some(from), Some(to), Some(khz)) = (tsc("touch"), tsc("check"), outcome.tsc_khz) {
        let cycles = to.guest_tsc.saturating_sub(from.guest_tsc) as f64;
        let ns = cycles * 1e6 / f64::from(khz) / faults;
        things.add(format!("a fault {name}"), "ns", is_new, ns);
    }
    let bytes = outcome.recorded.bytes as f64 / faults;
    things.add(format!("on disk, a fault {name}"), "bytes", is_new, bytes);
    things.add(format!("a run {name}: CPU"), "s", is_new, used.cpu_s);
    Ok(())
}

fn record(
    build: &Build,
    workload: &[&str],
    trace: &Path,
    out: Stdio,
) -> anyhow::Result<process::Used> {
    let mut command = build.command("collector");
    command.arg("run").args(workload).arg("--json");
    command.arg("--output").arg(trace).stdout(out);
    process::run(&mut command).with_context(|| format!("`collector run {}`", workload.join(" ")))
}

fn analyzed(
    build: &Build,
    command: &[&str],
    trace: &Path,
    out: &Path,
) -> anyhow::Result<process::Used> {
    let (name, options) = command.split_first().context("no command")?;
    let mut process = build.command("analyzer");
    process.arg(name).arg(trace);
    for option in options {
        match *option {
            "OUT" => process.arg(out),
            option => process.arg(option),
        };
    }
    process::run(&mut process).with_context(|| format!("`analyzer {name}`"))
}

fn print(things: Things, json: bool) -> anyhow::Result<()> {
    let compared: Vec<Compared> = things.0.into_iter().map(Compared::from).collect();
    if json {
        println!("{}", serde_json::to_string_pretty(&compared)?);
        return Ok(());
    }
    println!(
        "{:<28}{:>14}{:>14}{:>8}  {:<14}",
        "medians", "old", "new", "ratio", "its quartiles"
    );
    for of in &compared {
        let [low, high] = of.ratio.quartiles;
        println!(
            "{:<28}{:>14}{:>14}{:>8.2}  {low:.2} .. {high:.2}",
            of.what,
            format!("{:.3} {}", of.old.median, of.unit),
            format!("{:.3} {}", of.new.median, of.unit),
            of.ratio.median,
        );
    }
    Ok(())
}
