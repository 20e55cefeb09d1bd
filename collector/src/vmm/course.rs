//! How far a run is: which vCPUs run, what must end it, what went wrong first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{VmmError, lock};

/// The course of one run, shared by all its threads.
#[derive(Debug)]
pub(super) struct Course {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether `State::stop` is something, to be asked without the lock.
    stopping: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// vCPUs that are not ready to enter the guest yet.
    starting: usize,
    /// vCPUs that have not ended.
    running: usize,
    /// The guest's preparations are over: actors may begin.
    working: bool,
    stop: Option<Stop>,
    failure: Option<VmmError>,
}

/// Why all vCPUs must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The time is up, and nobody has said so yet.
    Timeout,
    /// Something has failed.
    Failed,
}

impl Course {
    /// Before the vCPUs start.
    pub(super) fn new(vcpus: usize) -> Self {
        Self {
            state: Mutex::new(State {
                starting: vcpus,
                running: vcpus,
                working: false,
                stop: None,
                failure: None,
            }),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// One vCPU's share in the course: it has ended when this is dropped.
    pub(super) fn part(&self) -> Part<'_> {
        Part {
            course: self,
            ready: false,
            _careful: Careful(self),
        }
    }

    /// Ends the run with `error`, unless it ends with another one already.
    pub(super) fn fail(&self, error: VmmError) {
        let mut state = lock(&self.state);
        state.failure.get_or_insert(error);
        self.set(&mut state, Stop::Failed);
    }

    /// The time is up: the first vCPU that sees it fails with its registers.
    pub(super) fn time_is_up(&self) {
        let mut state = lock(&self.state);
        if state.stop.is_none() {
            self.set(&mut state, Stop::Timeout);
        }
    }

    fn set(&self, state: &mut State, stop: Stop) {
        state.stop = Some(stop);
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Why the caller must stop, if it must.
    pub(super) fn stop(&self) -> Option<Stop> {
        if !self.stopping.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.state).stop
    }

    /// What went wrong first.
    pub(super) fn failure(self) -> Option<VmmError> {
        let state = self.state.into_inner();
        state
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .failure
    }

    /// The guest begins its work.
    pub(super) fn work_begins(&self) {
        lock(&self.state).working = true;
        self.changed.notify_all();
    }

    /// Waits until every vCPU is ready to enter the guest, or has ended.
    pub(super) fn wait_until_ready(&self) {
        self.wait(None, |state| state.starting == 0);
    }

    /// Waits until the guest begins its work; whether it does.
    pub(super) fn wait_for_work(&self) -> bool {
        self.wait(None, |state| state.working || state.running == 0);
        let state = lock(&self.state);
        state.working && state.running > 0
    }

    /// Waits for `time`, or until all vCPUs have ended; whether one still runs.
    pub(super) fn runs_after(&self, time: Duration) -> bool {
        !self.wait(Some(time), |state| state.running == 0)
    }

    /// Waits until `met`, for `time` at most; whether it is met.
    fn wait(&self, time: Option<Duration>, met: impl Fn(&State) -> bool) -> bool {
        let until = time.and_then(|time| Instant::now().checked_add(time));
        let mut state = lock(&self.state);
        while !met(&state) {
            let Some(until) = until else {
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(|poisoned| poisoned.into_inner());
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        true
    }
}

/// Stops all if its thread panics. The panic is what the caller gets; the others must not run on
/// for ever.
#[derive(Debug)]
pub(super) struct Careful<'a>(pub(super) &'a Course);

impl Drop for Careful<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set(&mut lock(&self.0.state), Stop::Failed);
        }
    }
}

/// See [`Course::part`].
#[derive(Debug)]
pub(super) struct Part<'a> {
    course: &'a Course,
    ready: bool,
    /// Dropped after `self`.
    _careful: Careful<'a>,
}

impl Part<'_> {
    /// The vCPU can enter the guest.
    pub(super) fn ready(&mut self) {
        self.ready = true;
        lock(&self.course.state).starting -= 1;
        self.course.changed.notify_all();
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.course.state);
        if !self.ready {
            state.starting -= 1;
        }
        state.running -= 1;
        self.course.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_failure_is_what_is_said() {
        let course = Course::new(1);
        assert_eq!(course.stop(), None);
        course.time_is_up();
        assert_eq!(course.stop(), Some(Stop::Timeout));
        course.fail(VmmError::Cancelled);
        course.fail(VmmError::NoKvm);
        course.time_is_up();
        assert_eq!(course.stop(), Some(Stop::Failed));
        assert!(matches!(course.failure(), Some(VmmError::Cancelled)));
    }

    #[test]
    fn a_run_ends_with_its_last_vcpu() {
        let course = Course::new(2);
        let (mut first, second) = (course.part(), course.part());
        first.ready();
        drop(second);
        // One is ready, the other has ended.
        course.wait_until_ready();
        assert!(course.runs_after(SOON));
        course.work_begins();
        assert!(course.wait_for_work());
        drop(first);
        assert!(!course.runs_after(LONG) && !course.wait_for_work());
    }

    #[test]
    fn a_panicking_vcpu_stops_the_others() {
        let course = Course::new(2);
        let _other = course.part();
        thread::scope(|scope| {
            let panic = scope.spawn(|| {
                let _part = course.part();
                panic!("in a vCPU's thread");
            });
            assert!(panic.join().is_err());
        });
        assert_eq!(course.stop(), Some(Stop::Failed));
    }
}
