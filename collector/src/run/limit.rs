//! The limit of a run, which holds whatever its threads wait for.
//!
//! The VMM ends by itself: its waits are for threads that a signal wakes. But a thread can be where
//! no signal reaches it: in the kernel, waiting for memory of a device or another machine, or
//! stopped by a debugger. Then the trace is closed as it is, and the process ends.

use std::{
    fs,
    path::Path,
    process,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;

use super::Options;
use crate::{
    failure::Failure,
    vmm::{GuestResult, Hooks, Vmm, VmmError},
};

/// How long after its limit, or after Ctrl-C, a run may take to end: a keyframe may wait 10 s for
/// room in the ring.
const GRACE: Duration = Duration::from_secs(15);
/// How soon Ctrl-C is noticed.
const POLL: Duration = Duration::from_millis(50);

/// Runs the guest. Where that does not end, `close` closes the trace (within [`GRACE`]), and this
/// process ends.
pub fn run(
    vmm: &mut Vmm,
    hooks: &dyn Hooks,
    options: &Options,
    cancel: &AtomicBool,
    close: impl FnOnce(String) -> anyhow::Result<()> + Send,
) -> Result<GuestResult, VmmError> {
    thread::scope(|scope| {
        let (sender, ended) = mpsc::channel();
        let running = thread::Builder::new()
            .name("vmm".to_owned())
            .spawn_scoped(scope, move || {
                // Nobody waits any more once the process ends.
                let _ = sender.send(vmm.run(hooks, options.timeout, cancel));
            })
            .map_err(VmmError::Thread)?;
        match wait(&ended, Instant::now() + options.timeout, GRACE, cancel) {
            Waited::Ended(ran) => ran,
            Waited::Panicked => match running.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => Err(VmmError::Cancelled),
            },
            Waited::Overdue => give_up(options, close),
        }
    })
}

/// What became of a run.
#[derive(Debug, PartialEq, Eq)]
enum Waited<T> {
    Ended(T),
    Panicked,
    /// It did not end.
    Overdue,
}

/// Waits until the run has ended, but at most `grace` after `limit` or `cancel`.
fn wait<T>(ended: &Receiver<T>, limit: Instant, grace: Duration, cancel: &AtomicBool) -> Waited<T> {
    let mut last = limit + grace;
    let mut is_cancelled = false;
    loop {
        match ended.recv_timeout(POLL) {
            Ok(ran) => return Waited::Ended(ran),
            Err(RecvTimeoutError::Disconnected) => return Waited::Panicked,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        if !is_cancelled && cancel.load(Ordering::Relaxed) {
            is_cancelled = true;
            last = last.min(now + grace);
        }
        if now >= last {
            return Waited::Overdue;
        }
    }
}

/// Closes the trace, says why, and ends the process with its threads.
#[expect(
    clippy::exit,
    reason = "a thread that does not end could not be waited for"
)]
fn give_up(options: &Options, close: impl FnOnce(String) -> anyhow::Result<()> + Send) -> ! {
    let why = format!(
        "the VMM did not end within {} s of its limit; {}",
        GRACE.as_secs(),
        threads(Path::new("/proc/self/task"))
    );
    thread::scope(|scope| {
        let (sender, closed) = mpsc::channel();
        let reason = why.clone();
        scope.spawn(move || sender.send(close(reason)));
        let closed = match closed.recv_timeout(GRACE) {
            Ok(closed) => closed,
            Err(_) => Err(anyhow!("the trace could not be closed either")),
        };
        let failure = Failure::failed(anyhow!(why)).also(closed.err());
        let trace = options.output.display();
        failure
            .hint(format!("{trace} holds what was recorded until then"))
            .report();
        // Before the scope waits for a thread that may not end.
        process::exit(1);
    });
    process::exit(1)
}

/// The threads that run or change the guest, and what they do.
fn threads(tasks: &Path) -> String {
    let mut found = Vec::new();
    for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let name = read("comm").trim().to_owned();
        if !name.starts_with("vcpu") && !name.starts_with("actor-") {
            continue;
        }
        let status = read("status");
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.map_or("", str::trim).to_owned()
        };
        let tracer = match value("TracerPid:").as_str() {
            "" | "0" => String::new(),
            tracer => format!(", traced by process {tracer}"),
        };
        let place = read("wchan");
        let place = match place.trim() {
            "" | "0" => String::new(),
            place => format!(", in {place}"),
        };
        found.push(format!("{name} is {}{place}{tracer}", value("State:")));
    }
    found.sort();
    match found.is_empty() {
        true => "no thread of it is left".to_owned(),
        false => found.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_run_that_ends_is_waited_for() {
        let (sender, ended) = mpsc::channel();
        sender.send(7).expect("it waits");
        let waited = wait(&ended, Instant::now(), LONG, &AtomicBool::new(true));
        assert_eq!(waited, Waited::Ended(7));
        drop(sender);
        let waited = wait(&ended, Instant::now(), LONG, &AtomicBool::new(false));
        assert_eq!(waited, Waited::Panicked);
    }

    #[test]
    fn a_run_that_does_not_end_is_given_up_after_its_limit_or_ctrl_c() {
        let (_sender, ended) = mpsc::channel::<()>();
        for (limit, cancelled) in [(SHORT, false), (LONG, true)] {
            let begin = Instant::now();
            let cancel = AtomicBool::new(cancelled);
            let waited = wait(&ended, begin + limit, SHORT, &cancel);
            assert_eq!(waited, Waited::Overdue);
            assert!((SHORT..LONG).contains(&begin.elapsed()));
        }
    }
}
