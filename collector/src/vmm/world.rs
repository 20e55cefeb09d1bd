//! Stops the world: every vCPU out of the guest, no actor inside an operation.
//!
//! Who runs the guest or changes it is *inside*. [`World::stop`] waits until nobody is, does its
//! work and lets all go on. Those inside leave by themselves: an actor between two operations, a
//! vCPU at [`Inside::pause`], to which it comes when its thread gets a signal: `KVM_RUN` returns
//! with `EINTR` then. A signal that arrives just before `KVM_RUN` would be lost, so it is sent
//! again until the thread has come out.
//!
//! Who is inside and wants the world stopped steps aside first, so that two who ask at once wait
//! for each other in turn, never for ever. Whoever has ended is not inside and is not waited for.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use libc::{c_int, c_void, pthread_t, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::lock;

/// Time between two kicks for the same reason.
pub(super) const KICK_AGAIN: Duration = Duration::from_millis(1);

/// Everything that runs or changes the guest.
#[derive(Debug)]
pub(super) struct World {
    state: Mutex<State>,
    changed: Condvar,
    /// As `State::stopped`, to be asked without the lock.
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody has the world stopped, or waits until it is.
    stopped: bool,
    /// How many are inside.
    inside: usize,
    /// Threads of vCPUs that have not ended; some may be aside.
    vcpus: Vec<pthread_t>,
}

impl World {
    /// A world with nobody in it.
    ///
    /// # Errors
    /// The kick's signal handler could not be set.
    pub(super) fn new() -> io::Result<Self> {
        register_signal_handler(SIGRTMIN(), on_kick)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        Ok(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        })
    }

    /// Goes inside, once the world is not stopped.
    pub(super) fn enter(&self) -> Inside<'_> {
        self.go_in();
        Inside {
            world: self,
            vcpu: None,
        }
    }

    /// As [`World::enter`]; the calling thread is kicked when it is wanted outside.
    pub(super) fn enter_as_vcpu(&self) -> Inside<'_> {
        // SAFETY: always succeeds, touches nothing.
        let thread = unsafe { libc::pthread_self() };
        lock(&self.state).vcpus.push(thread);
        self.go_in();
        Inside {
            world: self,
            vcpu: Some(thread),
        }
    }

    /// Does `work` while nobody is inside. For one who is not inside: see [`Inside::stop`].
    pub(super) fn stop<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut state = lock(&self.state);
        while state.stopped {
            state = self.wait(state);
        }
        state.stopped = true;
        self.stop.store(true, Ordering::Relaxed);
        let _going_on = GoingOn(self);
        while state.inside > 0 {
            state.kick();
            let waited = self.changed.wait_timeout(state, KICK_AGAIN);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        drop(state);
        work()
    }

    /// Gets every vCPU out of the guest once, unless it is just about to enter.
    pub(super) fn kick(&self) {
        lock(&self.state).kick();
    }

    fn go_in(&self) {
        let mut state = lock(&self.state);
        while state.stopped {
            state = self.wait(state);
        }
        state.inside += 1;
    }

    fn go_out(&self) {
        lock(&self.state).inside -= 1;
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn kick(&self) {
        for &thread in &self.vcpus {
            // SAFETY: the thread lives: it takes itself from the list before it ends, and the
            // list is locked. The signal's handler was set before, and does nothing.
            unsafe { libc::pthread_kill(thread, SIGRTMIN()) };
        }
    }
}

extern "C" fn on_kick(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

/// Lets the world go on, even after a panic.
struct GoingOn<'a>(&'a World);

impl Drop for GoingOn<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).stopped = false;
        self.0.stop.store(false, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

/// The caller runs the guest or changes it; outside again when dropped.
#[derive(Debug)]
pub(super) struct Inside<'a> {
    world: &'a World,
    vcpu: Option<pthread_t>,
}

impl Inside<'_> {
    /// If the world is to be stopped, waits outside until it goes on.
    pub(super) fn pause(&self) {
        if self.world.stop.load(Ordering::Relaxed) {
            self.aside(|| ());
        }
    }

    /// Does `work`, which may wait for others, outside.
    pub(super) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.world.go_out();
        let _back = Back(self.world);
        work()
    }

    /// As [`World::stop`], for one who is inside.
    pub(super) fn stop<T>(&self, work: impl FnOnce() -> T) -> T {
        self.aside(|| self.world.stop(work))
    }
}

/// Goes inside again, even after a panic: [`Inside`] counts on it.
struct Back<'a>(&'a World);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.0.go_in();
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(thread) = self.vcpu {
            lock(&self.world.state).vcpus.retain(|&one| one != thread);
        }
        self.world.go_out();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    /// Counts who is at work; a stopped world must find none.
    #[derive(Default)]
    struct Work {
        at: AtomicUsize,
        done: AtomicUsize,
    }

    impl Work {
        fn step(&self) {
            self.at.fetch_add(1, Ordering::SeqCst);
            thread::yield_now();
            self.at.fetch_sub(1, Ordering::SeqCst);
            self.done.fetch_add(1, Ordering::SeqCst);
        }

        fn nobody(&self) {
            assert_eq!(self.at.load(Ordering::SeqCst), 0);
            let done = self.done.load(Ordering::SeqCst);
            thread::sleep(Duration::from_micros(50));
            assert_eq!(self.done.load(Ordering::SeqCst), done, "nobody goes on");
        }
    }

    #[test]
    fn a_stopped_world_does_nothing() {
        let (world, work) = (World::new().unwrap(), Work::default());
        thread::scope(|scope| {
            for vcpu in 0..3 {
                let (world, work) = (&world, &work);
                scope.spawn(move || {
                    let inside = world.enter_as_vcpu();
                    // They end at different times, while others have the world stopped.
                    for round in 0..200 * (vcpu + 1) {
                        inside.pause();
                        work.step();
                        if round % 50 == 0 {
                            inside.stop(|| work.nobody());
                        }
                    }
                });
                scope.spawn(move || {
                    for round in 0..100 {
                        let inside = world.enter();
                        work.step();
                        if round % 10 == 0 {
                            inside.stop(|| work.nobody());
                        }
                    }
                });
                scope.spawn(move || {
                    for _ in 0..50 {
                        world.stop(|| work.nobody());
                    }
                });
            }
        });
        assert_eq!(work.done.into_inner(), 200 * 6 + 3 * 100);
        assert_eq!(lock(&world.state).inside, 0);
        assert!(lock(&world.state).vcpus.is_empty());
    }

    #[test]
    fn a_sleeping_vcpu_is_kicked() {
        let world = World::new().unwrap();
        let (entered, begin) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let inside = world.enter_as_vcpu();
                entered.send(()).unwrap();
                // As KVM_RUN: only a signal ends it.
                // SAFETY: no descriptors, no time-out: it waits for a signal.
                let result = unsafe { libc::poll(std::ptr::null_mut(), 0, -1) };
                assert_eq!(result, -1);
                inside.pause();
            });
            begin.recv().unwrap();
            assert_eq!(world.stop(|| 7), 7);
        });
    }

    #[test]
    fn who_steps_aside_is_not_waited_for() {
        let world = World::new().unwrap();
        let inside = world.enter();
        thread::scope(|scope| {
            inside.aside(|| scope.spawn(|| world.stop(|| 1)).join().unwrap());
            let other = scope.spawn(|| world.stop(|| 2));
            inside.stop(|| ());
            drop(inside);
            assert_eq!(other.join().unwrap(), 2);
        });
    }

    #[test]
    fn a_panic_lets_the_world_go_on() {
        let world = World::new().unwrap();
        let panicked = thread::scope(|scope| {
            let stop = || world.enter().stop(|| panic!("in a stopped world"));
            scope.spawn(stop).join().is_err()
        });
        assert!(panicked);
        drop(world.enter());
        assert_eq!(world.stop(|| 3), 3);
    }
}
