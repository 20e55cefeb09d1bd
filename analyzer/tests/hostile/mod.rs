//! Traces that nobody's collector wrote: damaged ones, and ones that lie. Whatever a trace holds,
//! every command ends by itself, soon and in little memory, with an exit code that is documented.
//!
//! ```text
//! commands  every command of the analyzer, with arguments that a trace answers to
//! process   one command under limits of time and memory, and what it did
//! damage    random damage of a copy of a real or made-up trace, by seed (`maker::damage`)
//! crafted   traces that are small on disk and ask for much work
//! ```

mod commands;
mod crafted;
mod damage;
mod process;
mod tape;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use maker::damage::Damage;

use commands::COMMANDS;
use damage::Origin;
use process::run;

/// Damaged traces of the short test; each meets some commands of all.
const SHORT: u64 = 120;
/// Commands that each damaged trace meets in the short test.
const SOME: usize = 9;

/// What the runs gave.
#[derive(Debug, Default)]
struct Tally {
    traces: u64,
    runs: u64,
    codes: BTreeMap<i32, u64>,
    slowest: Duration,
    largest: u64,
    findings: Vec<String>,
}

impl Tally {
    /// Runs commands on a trace.
    fn meet<'a>(
        &mut self,
        name: &str,
        trace: &Path,
        commands: impl Iterator<Item = &'a [&'a str]>,
    ) {
        self.traces += 1;
        for command in commands {
            let outcome = run(command, trace);
            self.runs += 1;
            self.slowest = self.slowest.max(outcome.cpu);
            self.largest = self.largest.max(outcome.memory);
            *self.codes.entry(outcome.code.unwrap_or(-1)).or_default() += 1;
            if let Some(what) = outcome.finding() {
                self.findings
                    .push(format!("{name}: {}: {what}", command.join(" ")));
            }
        }
    }

    #[track_caller]
    fn must_be_clean(&self) {
        println!(
            "{} traces, {} runs, by exit code {:?}; the slowest took {:?} of CPU, the largest {} MiB",
            self.traces,
            self.runs,
            self.codes,
            self.slowest,
            self.largest >> 20
        );
        let findings = self.findings.join("\n\n");
        assert!(self.findings.is_empty(), "{findings}");
        assert!(self.runs > 0);
    }
}

/// Damages one trace, and runs commands on it.
fn damaged(seed: u64, origins: &[Origin], some: usize, tally: &mut Tally) {
    let mut random = Rng::with_seed(seed);
    let Some(origin) = random.choice(origins) else {
        return;
    };
    let damage = Damage::ALL[random.usize(..Damage::ALL.len())];
    let copy = origin.damaged(damage, &mut random);
    let mut commands = COMMANDS.to_vec();
    random.shuffle(&mut commands);
    let name = format!("seed {seed}, {damage:?} of {}", origin.name);
    tally.meet(&name, &copy.path(), commands.into_iter().take(some));
}

#[test]
fn every_command_survives_a_damaged_trace() {
    let origins = damage::origins();
    let mut tally = Tally::default();
    // One at least is whole: the commands do something.
    tally.meet(
        "whole",
        &origins[0].whole().path(),
        COMMANDS.iter().copied(),
    );
    for seed in 0..SHORT {
        damaged(seed, &origins, SOME, &mut tally);
    }
    assert!(tally.codes.contains_key(&0) && tally.codes.contains_key(&1));
    tally.must_be_clean();
}

/// `HOSTILE_SECONDS` and `HOSTILE_SEED` choose how long, and from which seed on.
#[test]
#[ignore = "takes as long as HOSTILE_SECONDS says, 60 by default"]
fn every_command_survives_many_damaged_traces() {
    let number = |name: &str, default| {
        let value = std::env::var(name).ok().and_then(|text| text.parse().ok());
        value.unwrap_or(default)
    };
    let until = Instant::now() + Duration::from_secs(number("HOSTILE_SECONDS", 60));
    let origins = damage::origins();
    let mut tally = Tally::default();
    let mut seed = number("HOSTILE_SEED", 1_000_000);
    while Instant::now() < until {
        damaged(seed, &origins, COMMANDS.len(), &mut tally);
        seed += 1;
    }
    tally.must_be_clean();
}

/// `HOSTILE_SIZE` chooses how much of everything there is.
#[test]
#[ignore = "takes some minutes"]
fn a_trace_of_some_size_makes_no_endless_work() {
    let size = std::env::var("HOSTILE_SIZE").ok();
    let mut tally = Tally::default();
    crafted_meet(
        size.and_then(|size| size.parse().ok()).unwrap_or(2_000),
        &mut tally,
    );
    tally.must_be_clean();
}

fn crafted_meet(size: crafted::Size, tally: &mut Tally) {
    for (name, craft) in crafted::ALL {
        let begun = Instant::now();
        let runs = COMMANDS.iter().copied();
        tally.meet(name, &craft(size).path(), runs);
        println!("{name}: {:?}", begun.elapsed());
    }
}
