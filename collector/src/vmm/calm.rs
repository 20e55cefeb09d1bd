//! What tells a vCPU that guest memory is away for a moment, not for ever.
//!
//! While an actor has a part of guest memory unmapped or read-only, `KVM_RUN` may fail with
//! `EFAULT`. The guest has not moved then: once the memory is back, it is run again.

use std::sync::{Condvar, Mutex, MutexGuard};

use super::lock;

/// Whether guest memory is as the guest left it.
#[derive(Debug, Default)]
pub(super) struct Calm {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct State {
    under_way: u32,
    /// How many disturbances have begun.
    begun: u64,
    /// The memory could not be put back.
    lost: bool,
}

/// How things stood before an entry into the guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    begun: u64,
    calm: bool,
}

impl Calm {
    /// Memory is disturbed from now on, until the answer is dropped. Waits for [`Calm::calmly`].
    pub(super) fn disturb(&self) -> Disturbance<'_> {
        let mut state = lock(&self.state);
        state.under_way += 1;
        state.begun += 1;
        Disturbance(self)
    }

    /// How things stand now.
    pub(super) fn look(&self) -> Seen {
        let state = lock(&self.state);
        Seen {
            begun: state.begun,
            calm: state.under_way == 0,
        }
    }

    /// Whether there was a disturbance since `seen` was: it is over when this returns.
    pub(super) fn outlast(&self, seen: Seen) -> bool {
        let state = lock(&self.state);
        let disturbed = !seen.calm || state.begun != seen.begun;
        drop(self.until_calm(state));
        disturbed
    }

    /// Does `work` while nothing is disturbed; `None` if memory is lost.
    pub(super) fn calmly<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let calm = self.until_calm(lock(&self.state));
        (!calm.lost).then(work)
    }

    /// Memory could not be put back: nobody may touch it any more.
    pub(super) fn never(&self) {
        lock(&self.state).lost = true;
    }

    fn until_calm<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.under_way > 0 {
            let woken = self.over.wait(state);
            state = woken.unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state
    }
}

/// A disturbance under way.
#[derive(Debug)]
pub(super) struct Disturbance<'a>(&'a Calm);

impl Drop for Disturbance<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).under_way -= 1;
        self.0.over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn only_a_disturbance_explains_a_failure() {
        let calm = Calm::default();
        let seen = calm.look();
        assert!(!calm.outlast(seen));
        drop(calm.disturb());
        assert!(calm.outlast(seen), "since the entry");
        assert!(!calm.outlast(calm.look()));
        let under_way = calm.disturb();
        let seen = calm.look();
        drop(under_way);
        assert!(calm.outlast(seen), "at the entry");
    }

    #[test]
    fn a_disturbance_is_waited_for() {
        let (calm, away) = (Calm::default(), AtomicBool::new(true));
        let seen = calm.look();
        let disturbance = calm.disturb();
        thread::scope(|scope| {
            scope.spawn(|| assert!(calm.outlast(seen) && !away.load(Ordering::SeqCst)));
            scope.spawn(|| calm.calmly(|| assert!(!away.load(Ordering::SeqCst))));
            thread::sleep(Duration::from_millis(5));
            away.store(false, Ordering::SeqCst);
            drop(disturbance);
        });
    }

    #[test]
    fn memory_that_is_lost_is_not_touched() {
        let calm = Calm::default();
        assert_eq!(calm.calmly(|| 1), Some(1));
        calm.never();
        assert_eq!(calm.calmly(|| 1), None);
    }
}
