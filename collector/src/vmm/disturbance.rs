//! Guest memory that an actor has taken away for a moment.
//!
//! While an actor has part of guest memory unmapped or read-only, `KVM_RUN` may fail with `EFAULT`.
//! The guest's instruction has not completed then: it is entered again once the memory is back.

use std::sync::{Condvar, Mutex, MutexGuard};

use super::lock::lock;

/// The disturbances of one guest's memory.
#[derive(Debug, Default)]
pub(super) struct Disturbances {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Disturbances that have not ended.
    active: u32,
    /// Disturbances that have begun so far.
    begun: u64,
    /// The memory could not be put back.
    lost: bool,
}

/// The state before an entry into the guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    begun: u64,
    disturbed: bool,
}

impl Disturbances {
    /// Begins a disturbance, which ends when the result is dropped. Waits for
    /// [`Disturbances::run_undisturbed`].
    pub(super) fn begin(&self) -> Disturbance<'_> {
        let mut state = lock(&self.state);
        state.active += 1;
        state.begun += 1;
        Disturbance(self)
    }

    /// The current state.
    pub(super) fn snapshot(&self) -> Snapshot {
        let state = lock(&self.state);
        Snapshot {
            begun: state.begun,
            disturbed: state.active > 0,
        }
    }

    /// Whether there was a disturbance at or after `before`. Waits until it has ended.
    pub(super) fn wait_out(&self, before: Snapshot) -> bool {
        let state = lock(&self.state);
        let disturbed = before.disturbed || state.begun != before.begun;
        drop(self.until_undisturbed(state));
        disturbed
    }

    /// Runs `work` while no disturbance is active; `None` if the memory is lost.
    pub(super) fn run_undisturbed<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let state = self.until_undisturbed(lock(&self.state));
        (!state.lost).then(work)
    }

    /// The memory could not be put back: nobody may access it any more.
    pub(super) fn set_lost(&self) {
        lock(&self.state).lost = true;
    }

    fn until_undisturbed<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.active > 0 {
            let woken = self.ended.wait(state);
            state = woken.unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state
    }
}

/// An active disturbance.
#[derive(Debug)]
pub(super) struct Disturbance<'a>(&'a Disturbances);

impl Drop for Disturbance<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).active -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_disturbance_at_or_after_the_entry_explains_a_failure() {
        let disturbances = Disturbances::default();
        let before = disturbances.snapshot();
        assert!(!disturbances.wait_out(before));
        drop(disturbances.begin());
        assert!(disturbances.wait_out(before), "after the entry");
        assert!(!disturbances.wait_out(disturbances.snapshot()));
        let active = disturbances.begin();
        let before = disturbances.snapshot();
        drop(active);
        assert!(disturbances.wait_out(before), "at the entry");
    }

    #[test]
    fn accesses_wait_until_a_disturbance_has_ended() {
        let (disturbances, away) = (Disturbances::default(), AtomicBool::new(true));
        let before = disturbances.snapshot();
        let disturbance = disturbances.begin();
        let is_back = || assert!(!away.load(Ordering::SeqCst));
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(disturbances.wait_out(before));
                is_back();
            });
            scope.spawn(|| disturbances.run_undisturbed(is_back));
            thread::sleep(Duration::from_millis(5));
            away.store(false, Ordering::SeqCst);
            drop(disturbance);
        });
    }

    #[test]
    fn lost_memory_is_not_accessed() {
        let disturbances = Disturbances::default();
        assert_eq!(disturbances.run_undisturbed(|| 1), Some(1));
        disturbances.set_lost();
        assert_eq!(disturbances.run_undisturbed(|| 1), None);
    }
}
