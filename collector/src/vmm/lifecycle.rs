//! The lifecycle of a run: which vCPUs still run, why they must stop, what failed first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::error::VmmError;
use super::lock::lock;

/// The lifecycle of one run; all its threads share it.
#[derive(Debug)]
pub(super) struct Lifecycle {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether `State::stop` is set, readable without the lock.
    stopping: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// vCPUs that are not ready to enter the guest yet.
    starting: usize,
    /// vCPUs that have not ended.
    running: usize,
    /// The guest has finished its preparations: actors may begin.
    working: bool,
    stop: Option<Stop>,
    failure: Option<VmmError>,
}

/// Why all vCPUs must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The time is up, and no vCPU has reported it yet.
    Timeout,
    /// Something has failed.
    Failed,
}

impl Lifecycle {
    /// For as many vCPUs, none of which has started.
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

    /// Held by a vCPU's thread: the vCPU has ended when it is dropped.
    pub(super) fn vcpu_guard(&self) -> VcpuGuard<'_> {
        VcpuGuard {
            lifecycle: self,
            ready: false,
            _stop_on_panic: StopOnPanic(self),
        }
    }

    /// Ends the run with `error`, unless it ends with an earlier one.
    pub(super) fn fail(&self, error: VmmError) {
        let mut state = lock(&self.state);
        state.failure.get_or_insert(error);
        self.set(&mut state, Stop::Failed);
    }

    /// The time is up: the first vCPU that sees it fails with its registers.
    pub(super) fn set_timeout(&self) {
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

    /// The first failure.
    pub(super) fn failure(&self) -> Option<VmmError> {
        lock(&self.state).failure.take()
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

    /// Waits until the guest begins its work; false if it ends before that.
    pub(super) fn wait_for_work(&self) -> bool {
        self.wait(None, |state| state.working || state.running == 0);
        let state = lock(&self.state);
        state.working && state.running > 0
    }

    /// Waits for `time`, or until all vCPUs have ended; true if one still runs.
    pub(super) fn runs_after(&self, time: Duration) -> bool {
        !self.wait(Some(time), |state| state.running == 0)
    }

    /// Waits until `met`, but for `time` at most; whether it is met.
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

/// Stops all vCPUs if its thread panics: they must not run for ever while the caller waits to
/// propagate the panic.
#[derive(Debug)]
pub(super) struct StopOnPanic<'a>(pub(super) &'a Lifecycle);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set(&mut lock(&self.0.state), Stop::Failed);
        }
    }
}

/// See [`Lifecycle::vcpu_guard`].
#[derive(Debug)]
pub(super) struct VcpuGuard<'a> {
    lifecycle: &'a Lifecycle,
    ready: bool,
    /// Dropped after `self`.
    _stop_on_panic: StopOnPanic<'a>,
}

impl VcpuGuard<'_> {
    /// The vCPU can enter the guest.
    pub(super) fn ready(&mut self) {
        self.ready = true;
        lock(&self.lifecycle.state).starting -= 1;
        self.lifecycle.changed.notify_all();
    }
}

impl Drop for VcpuGuard<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.lifecycle.state);
        if !self.ready {
            state.starting -= 1;
        }
        state.running -= 1;
        self.lifecycle.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_failure_is_reported() {
        let lifecycle = Lifecycle::new(1);
        assert_eq!(lifecycle.stop(), None);
        lifecycle.set_timeout();
        assert_eq!(lifecycle.stop(), Some(Stop::Timeout));
        lifecycle.fail(VmmError::Cancelled);
        lifecycle.fail(VmmError::NoKvm);
        lifecycle.set_timeout();
        assert_eq!(lifecycle.stop(), Some(Stop::Failed));
        assert!(matches!(lifecycle.failure(), Some(VmmError::Cancelled)));
    }

    #[test]
    fn a_run_ends_with_its_last_vcpu() {
        let lifecycle = Lifecycle::new(2);
        let (mut first, second) = (lifecycle.vcpu_guard(), lifecycle.vcpu_guard());
        first.ready();
        drop(second);
        // One is ready, the other has ended.
        lifecycle.wait_until_ready();
        assert!(lifecycle.runs_after(SOON));
        lifecycle.work_begins();
        assert!(lifecycle.wait_for_work());
        drop(first);
        assert!(!lifecycle.runs_after(LONG) && !lifecycle.wait_for_work());
    }

    #[test]
    fn a_panicking_vcpu_stops_the_others() {
        let lifecycle = Lifecycle::new(2);
        let _other = lifecycle.vcpu_guard();
        thread::scope(|scope| {
            let panic = scope.spawn(|| {
                let _guard = lifecycle.vcpu_guard();
                panic!("in a vCPU's thread");
            });
            assert!(panic.join().is_err());
        });
        assert_eq!(lifecycle.stop(), Some(Stop::Failed));
    }
}
