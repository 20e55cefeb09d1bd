//! Stops the world: every vCPU is outside the guest, no actor is inside an operation.
//!
//! A thread that runs or changes the guest is *inside*. [`World::stop`] waits until no thread is,
//! does its work and resumes all. Threads leave by themselves: an actor between two operations, a
//! vCPU at [`Inside::pause`], which it reaches when a signal makes `KVM_RUN` return `EINTR`. A
//! signal that arrives just before `KVM_RUN` is lost, so it is sent again until the thread has
//! left.
//!
//! A thread that is inside and wants to stop the world steps out first, so that two of them take
//! turns and never wait for each other. A thread that has ended is not inside and is not waited
//! for.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use libc::{c_int, c_void, pthread_t, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::lock::lock;

/// Time between two kicks of a thread that has not left.
pub(super) const KICK_AGAIN: Duration = Duration::from_millis(1);

/// The threads that run or change the guest.
#[derive(Debug)]
pub(super) struct World {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether `State::stopped` is, readable without the lock.
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Since when a thread has stopped the world, or waits until it is stopped.
    stopped: Option<Instant>,
    /// Threads that are inside.
    inside: usize,
    /// Threads of vCPUs that have not ended, inside or not.
    vcpus: Vec<pthread_t>,
}

impl World {
    /// Without threads.
    ///
    /// # Errors
    /// The signal handler of the kick could not be installed.
    pub(super) fn new() -> io::Result<Self> {
        register_signal_handler(SIGRTMIN(), on_kick)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        Ok(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        })
    }

    /// Makes the calling thread inside, once the world is not stopped.
    pub(super) fn enter(&self) -> Inside<'_> {
        self.go_in();
        Inside {
            world: self,
            vcpu: None,
        }
    }

    /// As [`World::enter`]; the calling thread is kicked when it must leave.
    pub(super) fn enter_as_vcpu(&self) -> Inside<'_> {
        // SAFETY: it always succeeds and accesses no memory of ours.
        let thread = unsafe { libc::pthread_self() };
        lock(&self.state).vcpus.push(thread);
        self.go_in();
        Inside {
            world: self,
            vcpu: Some(thread),
        }
    }

    /// Runs `work` while no thread is inside. Not for a thread that is inside: see
    /// [`Inside::stop`].
    pub(super) fn stop<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut state = lock(&self.state);
        while state.stopped.is_some() {
            state = self.wait(state);
        }
        state.stopped = Some(Instant::now());
        self.stop.store(true, Ordering::Relaxed);
        let _resume = Resume(self);
        while state.inside > 0 {
            state.kick();
            let waited = self.changed.wait_timeout(state, KICK_AGAIN);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        drop(state);
        work()
    }

    /// Since when the world is stopped, or about to be.
    pub(super) fn stopped_since(&self) -> Option<Instant> {
        lock(&self.state).stopped
    }

    /// Makes every vCPU leave the guest once, unless it is about to enter.
    pub(super) fn kick(&self) {
        lock(&self.state).kick();
    }

    fn go_in(&self) {
        let mut state = lock(&self.state);
        while state.stopped.is_some() {
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
            // SAFETY: the thread exists: it removes itself from the list before it ends, and the
            // list is locked. The signal has a handler, which does nothing.
            unsafe { libc::pthread_kill(thread, SIGRTMIN()) };
        }
    }
}

extern "C" fn on_kick(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

/// Resumes the world, even after a panic.
struct Resume<'a>(&'a World);

impl Drop for Resume<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).stopped = None;
        self.0.stop.store(false, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

/// A thread that is inside until this is dropped.
#[derive(Debug)]
pub(super) struct Inside<'a> {
    world: &'a World,
    vcpu: Option<pthread_t>,
}

impl Inside<'_> {
    /// If the world is to be stopped, waits outside until it resumes.
    pub(super) fn pause(&self) {
        if self.world.stop.load(Ordering::Relaxed) {
            self.step_out(|| ());
        }
    }

    /// Runs `work`, which may wait for other threads, outside.
    pub(super) fn step_out<T>(&self, work: impl FnOnce() -> T) -> T {
        self.world.go_out();
        let _reenter = Reenter(self.world);
        work()
    }

    /// As [`World::stop`], for a thread that is inside.
    pub(super) fn stop<T>(&self, work: impl FnOnce() -> T) -> T {
        self.step_out(|| self.world.stop(work))
    }
}

/// Goes inside again, even after a panic: dropping [`Inside`] relies on it.
struct Reenter<'a>(&'a World);

impl Drop for Reenter<'_> {
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

    /// Counts the threads at work, of which a stopped world must find none.
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
            assert_eq!(self.done.load(Ordering::SeqCst), done, "no thread works");
        }
    }

    #[test]
    fn in_a_stopped_world_no_thread_works() {
        let (world, work) = (World::new().unwrap(), Work::default());
        thread::scope(|scope| {
            for vcpu in 0..3 {
                let (world, work) = (&world, &work);
                scope.spawn(move || {
                    let inside = world.enter_as_vcpu();
                    // They end at different times, while others stop the world.
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
                // Like KVM_RUN: only a signal ends it.
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
    fn a_thread_that_steps_out_is_not_waited_for() {
        let world = World::new().unwrap();
        let inside = world.enter();
        thread::scope(|scope| {
            inside.step_out(|| scope.spawn(|| world.stop(|| 1)).join().unwrap());
            let other = scope.spawn(|| world.stop(|| 2));
            inside.stop(|| ());
            drop(inside);
            assert_eq!(other.join().unwrap(), 2);
        });
    }

    #[test]
    fn the_world_resumes_after_a_panic() {
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
