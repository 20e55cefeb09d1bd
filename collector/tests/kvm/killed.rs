//! `kill -9` at random moments: what was recorded is readable, nothing is left in the kernel, and no
//! process stays stopped.

use std::{
    collections::BTreeSet,
    env, fmt, fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use trace::Trace;

use crate::support::{
    analyzer,
    bpf::{programs_of, until_gone},
    collector, expect_code, folder, run,
    vmm::Vmm,
};

/// Tries in the ordinary tests, and in the long ones unless `KILLS` is another number.
const FEW: u32 = 12;
const MANY: u32 = 200;
/// Latest moment of the kill, after the start or after there is a trace: loading the probes takes from
/// one second to several.
const LATEST: Duration = Duration::from_millis(2500);
/// Of so many tries one is killed at any moment from the start, the others when there is a trace.
const ONE_OF: u32 = 4;
/// Longest time until there is a trace.
const LOADED: Duration = Duration::from_secs(60);
/// What may be missing: a stretch of one second, and the time to write it while two cores are busy
/// with the guest.
const MOST_LOST_NS: u64 = 2_000_000_000;
/// Longest time in which the kernel lets the threads of a tracer that died run on.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_run_that_is_killed_loses_a_second_at_most() {
    println!("{}", kill_runs(FEW));
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_an_attach_that_is_killed_loses_a_second_at_most_and_stops_nobody() {
    println!("{}", kill_attaches(FEW));
}

/// Half an hour: run by hand, with `--nocapture` for the figures.
#[test]
#[ignore = "long: needs root and a shadow MMU (/dev/kvm)"]
fn long_many_runs_and_attaches_are_killed() {
    let tries = match env::var("KILLS") {
        Ok(tries) => tries.parse().expect("KILLS: a number"),
        Err(_) => MANY,
    };
    println!("{}", kill_runs(tries));
    println!("{}", kill_attaches(tries));
}

fn kill_runs(tries: u32) -> Tally {
    let mut tally = Tally::new("run");
    for _ in 0..tries {
        let folder = folder();
        let trace = folder.path().join("k.trace");
        // Faults without a pause, for longer than any try.
        let args = ["run", "dirty", "-p", "pages=4096", "-p", "passes=1000000"];
        let mut command = collector();
        command.args(args).args(["--keyframe-every", "0.1", "-o"]);
        tally.kill(command.arg(&trace), &trace);
    }
    tally
}

fn kill_attaches(tries: u32) -> Tally {
    let mut tally = Tally::new("attach");
    let mut vmm = Vmm::small(&["--vcpus", "2", "--pages", "4096", "--discard"]);
    vmm.go();
    vmm.expect("touched");
    for _ in 0..tries {
        let folder = folder();
        let trace = folder.path().join("k.trace");
        let mut command = collector();
        let pid = vmm.pid().to_string();
        // The guest is stopped for much of the time.
        let args = ["attach", "--pid", &pid, "--keyframe-every", "0.02", "-o"];
        tally.kill(command.args(args).arg(&trace), &trace);
        let stopped = still_stopped(vmm.pid());
        assert!(stopped.is_empty(), "{tally}: stopped: {stopped:?}");
    }
    tally
}

/// Counts of the tries.
struct Tally {
    command: &'static str,
    random: Random,
    tries: u32,
    /// Killed before there was a trace.
    before: u32,
    /// Those whose trace is readable and says that it was cut.
    survived: u32,
    /// The most that is missing at an end, ns.
    most_lost: u64,
    /// Records of all.
    records: u64,
    /// Tries that left a file with a temporary name.
    left_over: u32,
}

impl Tally {
    fn new(command: &'static str) -> Self {
        Self {
            command,
            random: Random(now_ns()),
            tries: 0,
            before: 0,
            survived: 0,
            most_lost: 0,
            records: 0,
            left_over: 0,
        }
    }

    /// Starts a recording, kills it, and looks at what is left.
    fn kill(&mut self, command: &mut Command, trace: &Path) {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        self.tries += 1;
        if !self.tries.is_multiple_of(ONE_OF) {
            let begin = Instant::now();
            while !trace.join("meta.json").exists() {
                assert!(begin.elapsed() < LOADED, "{self}: no trace");
                thread::sleep(Duration::from_millis(5));
            }
        }
        thread::sleep(self.random.below(LATEST));
        let (programs, at_ns) = kill(&mut child, self);
        let left = until_gone(&programs);
        assert!(left.is_empty(), "{self}: programs stay: {left:?}");
        if !trace.join("meta.json").exists() {
            self.before += 1;
            return;
        }
        let read = Trace::open(trace).unwrap_or_else(|error| panic!("{self}: {error}"));
        assert!(read.was_cut(), "{self}");
        let mut last = read.meta().started_ns;
        for record in read.records() {
            let record = record.unwrap_or_else(|error| panic!("{self}: {error}"));
            last = last.max(record.time().0);
            self.records += 1;
        }
        let lost = at_ns.saturating_sub(last);
        self.most_lost = self.most_lost.max(lost);
        assert!(lost < MOST_LOST_NS, "{self}: {lost} ns are missing");
        self.left_over += u32::from(!read.left_over().is_empty());
        let summary = run(analyzer().arg("summary").arg(trace));
        expect_code(&summary, 0);
        let text = String::from_utf8_lossy(&summary.stdout).into_owned();
        assert!(text.starts_with("CUT: "), "{self}: {text}");
        self.survived += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.most_lost / 1_000_000;
        write!(
            f,
            "{}: {} tries, {} before there was a trace, {} readable, 0 lost; at most {millis} ms \
             missing at the end; {} records, {} with a left-over file",
            self.command, self.tries, self.before, self.survived, self.records, self.left_over
        )
    }
}

/// Kills it; which programs it had loaded, and when.
fn kill(child: &mut Child, tally: &Tally) -> (BTreeSet<u32>, u64) {
    let ended = child.try_wait().expect("a child");
    assert!(ended.is_none(), "{tally}: it ended by itself: {ended:?}");
    let programs = programs_of(child.id());
    let at = now_ns();
    child.kill().expect("kill -9");
    child.wait().expect("a child");
    (programs, at)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Threads of a process that are stopped or traced, and stay so.
fn still_stopped(pid: u32) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let mut stopped = Vec::new();
        for task in tasks.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let has = |words: &str| status.contains(words);
            if has("State:\tt") || has("State:\tT") || !has("TracerPid:\t0") {
                stopped.push(status);
            }
        }
        if stopped.is_empty() || begin.elapsed() > PATIENCE {
            return stopped;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Numbers that differ from try to try (a linear congruential generator, Knuth's constants).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        limit.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
