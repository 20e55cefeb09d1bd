//! Mutexes of a run's threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, also after another thread has panicked: no lock is held while its data is
/// inconsistent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
