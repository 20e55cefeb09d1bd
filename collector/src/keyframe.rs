//! Keyframes of one VM, numbered as they are taken, and when they are taken.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use events::VmId;

use crate::probes::{Probes, RequestError};

/// When keyframes are taken in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// At this distance from each other.
    Time(Duration),
    /// So that the VM is stopped for at most a hundredth of the time.
    Auto,
}

impl Every {
    /// Shortest distance by itself.
    const SHORTEST: Duration = Duration::from_secs(1);

    /// From the end of a stop that lasted `stopped` to the next one.
    pub fn pause(self, stopped: Duration) -> Duration {
        match self {
            Self::Time(every) => every,
            Self::Auto => stopped.saturating_mul(99).max(Self::SHORTEST),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(every) => every.as_secs_f64().fmt(f),
            Self::Auto => f.write_str(AUTO),
        }
    }
}

/// The word for [`Every::Auto`].
pub const AUTO: &str = "auto";

/// Takes keyframes of a VM. The vCPUs must be stopped.
#[derive(Debug)]
pub struct Keyframes {
    probes: Arc<Probes>,
    vm: VmId,
    next: AtomicU32,
    /// Pages of the last keyframe; [`NONE_YET`] before the first.
    pages: AtomicU32,
}

/// More pages than any VM has.
const NONE_YET: u32 = u32::MAX;

impl Keyframes {
    /// Of an enrolled VM.
    pub fn new(probes: Arc<Probes>, vm: VmId) -> Self {
        Self {
            probes,
            vm,
            next: AtomicU32::new(0),
            pages: AtomicU32::new(NONE_YET),
        }
    }

    /// Copies every shadow page and the root of every vCPU into the trace; answers with the number
    /// of pages. The VM was told to stop for it at `stopped`; `None` if it does not run anyway.
    pub fn take(&self, stopped: Option<Instant>) -> Result<u32, RequestError> {
        let before = self.pages.load(Ordering::Relaxed);
        let expected = Some(before).filter(|&pages| pages != NONE_YET);
        let pages = with_one_retry(|| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.probes.keyframe(self.vm, number, expected, stopped)
        })?;
        self.pages.store(pages, Ordering::Relaxed);
        Ok(pages)
    }
}

/// Tries again if the tables changed while they were copied: the vCPUs are stopped, but the host
/// may take pages back (NX recovery, and up to Linux 6.12 the shrinker).
fn with_one_retry(
    mut take: impl FnMut() -> Result<u32, RequestError>,
) -> Result<u32, RequestError> {
    match take() {
        Err(RequestError::Keyframe { .. }) => take(),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of attempts of which the first `failures` fail, and how many there were.
    fn attempts(failures: u32, error: impl Fn(u32) -> RequestError) -> (bool, u32) {
        let mut made = 0;
        let taken = with_one_retry(|| {
            made += 1;
            match made <= failures {
                true => Err(error(made)),
                false => Ok(7),
            }
        });
        (taken.is_ok(), made)
    }

    #[test]
    fn by_itself_a_hundredth_of_the_time_is_stopped() {
        let [none, short, long] = [0, 7, 500].map(Duration::from_millis);
        assert_eq!(Every::Auto.pause(none), Duration::from_secs(1));
        assert_eq!(Every::Auto.pause(short), Duration::from_secs(1));
        assert_eq!(Every::Auto.pause(long), Duration::from_millis(49_500));
        assert_eq!(Every::Time(short).pause(long), short);
    }

    #[test]
    fn a_keyframe_that_changed_while_it_was_copied_is_taken_once_more() {
        let changed = |number| RequestError::Keyframe {
            number,
            why: "the list of shadow pages changed".to_owned(),
        };
        assert_eq!(attempts(0, changed), (true, 1));
        assert_eq!(attempts(1, changed), (true, 2));
        assert_eq!(attempts(2, changed), (false, 2));
    }

    #[test]
    fn a_ring_that_stays_full_is_not_waited_for_again() {
        let full = |number| RequestError::RingFull {
            number,
            seconds: 10,
        };
        assert_eq!(attempts(1, full), (false, 1));
    }
}
