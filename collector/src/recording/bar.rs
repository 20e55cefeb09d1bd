//! Progress on a terminal.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::{
    privileges::{self, PrivilegeError},
    record::Progress,
};

/// Environment variable in which `series` says which of its runs this is: `2 of 5`.
pub const SERIES: &str = "SHADOWSCOPE_SERIES";

/// How often the bar is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(100);
/// Over how long the rate of faults is taken.
const RATE_OVER: Duration = Duration::from_secs(1);

/// A line on a terminal that changes until it is finished.
pub struct Bar {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Bar {
    /// Shows `doing` and the time.
    pub fn of_work(doing: &'static str, quiet: bool) -> Result<Self, PrivilegeError> {
        Self::start(quiet, move || doing.to_owned())
    }

    /// Shows what is recorded.
    pub fn of_recording(progress: Arc<Progress>, quiet: bool) -> Result<Self, PrivilegeError> {
        let mut rate = Rate::new(Instant::now());
        Self::start(quiet, move || {
            let faults = progress.faults.load(Ordering::Relaxed);
            let recorded = Recorded {
                phase: progress.phase(),
                faults,
                rate: rate.of(faults, Instant::now()),
                lost: progress.lost.load(Ordering::Relaxed),
                bytes: progress.bytes.load(Ordering::Relaxed),
            };
            recorded.line()
        })
    }

    fn start(
        quiet: bool,
        mut line: impl FnMut() -> String + Send + 'static,
    ) -> Result<Self, PrivilegeError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let bar = match quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::new_spinner(),
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}{wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        if let Ok(which) = env::var(SERIES) {
            bar.set_prefix(format!("[{which}] "));
        }
        // A thread has the capabilities of the one that starts it: this one needs none.
        let thread = privileges::without(|| {
            thread::spawn(move || {
                while !stopping.load(Ordering::Acquire) {
                    bar.set_message(line());
                    bar.tick();
                    thread::park_timeout(DRAWN_EVERY);
                }
                bar.finish_and_clear();
            })
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Bar {
    /// Removes the line.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It holds nothing: if it panicked, only the display is lost.
            let _ = thread.join();
        }
    }
}

/// What a recording has come to.
struct Recorded {
    phase: String,
    faults: u64,
    /// Faults a second.
    rate: u64,
    lost: u64,
    bytes: u64,
}

impl Recorded {
    fn line(&self) -> String {
        let phase = match self.phase.as_str() {
            "" => "recording".to_owned(),
            phase => format!("phase {phase}"),
        };
        format!(
            "{phase}: {} faults, {} a second, {} lost, {} on disk",
            HumanCount(self.faults),
            HumanCount(self.rate),
            HumanCount(self.lost),
            HumanBytes(self.bytes),
        )
    }
}

/// Faults a second, over the last second or so.
struct Rate {
    since: Instant,
    before: u64,
    latest: u64,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            before: 0,
            latest: 0,
        }
    }

    fn of(&mut self, faults: u64, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.since);
        if passed >= RATE_OVER {
            let ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
            let more = faults.saturating_sub(self.before);
            self.latest = more.saturating_mul(1000) / ms;
            (self.since, self.before) = (now, faults);
        }
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_phase_rate_and_loss() {
        let mut recorded = Recorded {
            phase: String::new(),
            faults: 12_345,
            rate: 4_000,
            lost: 0,
            bytes: 3 << 20,
        };
        let line = "recording: 12,345 faults, 4,000 a second, 0 lost, 3.00 MiB on disk";
        assert_eq!(recorded.line(), line);
        recorded.phase = "touch".to_owned();
        assert!(recorded.line().starts_with("phase touch: "));
    }

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut rate = Rate::new(begin);
        assert_eq!(rate.of(100, at(500)), 0);
        assert_eq!(rate.of(300, at(1500)), 200);
        assert_eq!(rate.of(900, at(2000)), 200);
        assert_eq!(rate.of(1300, at(2500)), 1000);
    }
}
