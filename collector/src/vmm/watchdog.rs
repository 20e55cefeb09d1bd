//! Gets a vCPU out of the guest: when its time is up, on request, and regularly.
//!
//! `KVM_RUN` returns with `EINTR` when its thread receives a signal. The watchdog says in
//! [`Watch`] what it wants and then sends a real-time signal, whose handler does nothing.
//! A signal that arrives just before `KVM_RUN` would be lost; so it is sent again every
//! few milliseconds until the vCPU's thread has seen what is wanted. That does the work of
//! KVM's `immediate_exit` flag, with no memory shared between the two threads but atomics.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use libc::{c_int, c_void, pthread_t, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

/// Longest time from `cancel` to the kick.
const POLL: Duration = Duration::from_millis(50);
/// Time between two kicks for the same reason.
const KICK_AGAIN: Duration = Duration::from_millis(5);

/// When to kick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders<'a> {
    pub(super) timeout: Duration,
    pub(super) cancel: &'a AtomicBool,
    pub(super) tick_every: Option<Duration>,
}

/// Why a guest must stop for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Timeout,
    Cancelled,
}

/// What the watchdog wants, seen from the vCPU's thread.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stop: AtomicU8,
    tick: AtomicBool,
}

const TIMEOUT: u8 = 1;
const CANCELLED: u8 = 2;

impl Watch {
    pub(super) fn stop_reason(&self) -> Option<Reason> {
        match self.stop.load(Ordering::Relaxed) {
            TIMEOUT => Some(Reason::Timeout),
            CANCELLED => Some(Reason::Cancelled),
            _ => None,
        }
    }

    /// Whether a tick is due; it counts as done then.
    pub(super) fn take_tick(&self) -> bool {
        self.tick.load(Ordering::Relaxed) && self.tick.swap(false, Ordering::Relaxed)
    }
}

/// Runs `work` on this thread with a watchdog beside it.
pub(super) fn watch<T>(orders: Orders<'_>, work: impl FnOnce(&Watch) -> T) -> io::Result<T> {
    register_signal_handler(SIGRTMIN(), on_kick)
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
    // SAFETY: always succeeds, touches nothing.
    let vcpu_thread = unsafe { libc::pthread_self() };
    let watch = Watch::default();
    let (running, ended) = channel::<()>();
    thread::scope(|scope| {
        thread::Builder::new()
            .name("vmm-watchdog".into())
            .spawn_scoped(scope, || guard(orders, &watch, vcpu_thread, ended))?;
        let result = work(&watch);
        // Ends the watchdog; a panic in `work` drops it as well.
        drop(running);
        Ok(result)
    })
}

extern "C" fn on_kick(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

fn guard(orders: Orders<'_>, watch: &Watch, vcpu_thread: pthread_t, ended: Receiver<()>) {
    let begin = Instant::now();
    let mut next_tick = orders.tick_every;
    loop {
        let ran = begin.elapsed();
        if orders.cancel.load(Ordering::Relaxed) {
            watch.stop.store(CANCELLED, Ordering::Relaxed);
        } else if ran >= orders.timeout {
            watch.stop.store(TIMEOUT, Ordering::Relaxed);
        }
        if let (Some(every), Some(due)) = (orders.tick_every, next_tick)
            && ran >= due
        {
            watch.tick.store(true, Ordering::Relaxed);
            next_tick = ran.checked_add(every);
        }

        let wanted = watch.stop_reason().is_some() || watch.tick.load(Ordering::Relaxed);
        if wanted {
            kick(vcpu_thread);
        }
        let due = next_tick.unwrap_or(Duration::MAX).min(orders.timeout);
        let pause = if wanted {
            KICK_AGAIN
        } else {
            due.saturating_sub(ran).min(POLL)
        };
        match ended.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn kick(thread: pthread_t) {
    // SAFETY: the thread lives: it is inside `watch`, whose scope ends only after the
    // watchdog. The signal's handler was set before the watchdog began, and does nothing.
    unsafe { libc::pthread_kill(thread, SIGRTMIN()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep_until_stopped(watch: &Watch) -> Reason {
        loop {
            // Returns early when kicked, as KVM_RUN does.
            thread::sleep(Duration::from_millis(1));
            if let Some(reason) = watch.stop_reason() {
                return reason;
            }
        }
    }

    #[test]
    fn time_runs_out() {
        let cancel = AtomicBool::new(false);
        let timeout = Duration::from_millis(20);
        let orders = Orders {
            timeout,
            cancel: &cancel,
            tick_every: None,
        };
        assert_eq!(watch(orders, sleep_until_stopped).unwrap(), Reason::Timeout);
    }

    #[test]
    fn a_cancel_is_seen_soon() {
        let cancel = AtomicBool::new(true);
        let orders = Orders {
            timeout: Duration::MAX,
            cancel: &cancel,
            tick_every: None,
        };
        assert_eq!(
            watch(orders, sleep_until_stopped).unwrap(),
            Reason::Cancelled
        );
    }

    #[test]
    fn ticks_come_one_by_one() {
        let cancel = AtomicBool::new(false);
        let tick_every = Some(Duration::from_millis(2));
        let orders = Orders {
            timeout: Duration::from_secs(60),
            cancel: &cancel,
            tick_every,
        };
        let ticks = watch(orders, |watch| {
            let mut ticks = 0;
            while ticks < 3 && watch.stop_reason().is_none() {
                thread::sleep(Duration::from_millis(1));
                ticks += u32::from(watch.take_tick());
            }
            ticks
        });
        assert_eq!(ticks.unwrap(), 3);
    }

    #[test]
    fn work_that_ends_first_is_not_waited_for() {
        let cancel = AtomicBool::new(false);
        let orders = Orders {
            timeout: Duration::MAX,
            cancel: &cancel,
            tick_every: None,
        };
        assert_eq!(watch(orders, |_| 7).unwrap(), 7);
    }
}
