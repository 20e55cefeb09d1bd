//! A run: the vCPUs and the actors on threads of their own, and this one, which conducts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use abi::Phase;

use super::actors::{self, Stage};
use super::calm::Calm;
use super::course::Course;
use super::hooks::Hooks;
use super::stand_in::StandIn;
use super::vcpu::{Done, Scene, Vcpu};
use super::world::{KICK_AGAIN, World};
use super::{Vmm, VmmError};

/// Longest time from `cancel` to the kick.
const POLL: Duration = Duration::from_millis(50);

/// A phase of the guest's work began on a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestMark {
    /// The vCPU.
    pub vcpu: u16,
    /// The phase.
    pub phase: Phase,
    /// The vCPU's time-stamp counter, guest TSC cycles.
    pub guest_tsc: u64,
}

/// What a guest that did its work says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestResult {
    /// Pages that the guest checked and found right, all vCPUs together.
    pub pages: u64,
    /// The marks, in the order in which they came.
    pub marks: Vec<GuestMark>,
    /// Wall-clock time from the first `KVM_RUN` to the guest's last call, hooks included.
    pub elapsed: Duration,
    /// Returns of `KVM_RUN` to this process, all vCPUs together.
    pub exits: u64,
    /// Passes of the actors.
    pub passes: u64,
}

impl Vmm {
    /// Runs all vCPUs until the guest is done on each, and the actors beside them.
    ///
    /// Every vCPU is kicked out of the guest when `timeout` is over or `cancel` is set, at most
    /// 50 ms later, and when another one has failed.
    ///
    /// # Errors
    /// Everything that is not a right result: see [`VmmError`]. The first failure is what is
    /// reported. The VM cannot be run again.
    pub fn run(
        &mut self,
        hooks: &dyn Hooks,
        timeout: Duration,
        cancel: &AtomicBool,
    ) -> Result<GuestResult, VmmError> {
        let scene = Scene {
            world: World::new().map_err(VmmError::Signal)?,
            course: Course::new(self.vcpus.len()),
            calm: Calm::default(),
            ram: &self.ram,
            stand_in: StandIn::of(&self.plan),
            hooks,
            timeout,
            confined: self.confined,
            marks: Mutex::default(),
            acts: Mutex::default(),
        };
        let stage = Stage {
            scene: &scene,
            vm: &self.vm,
            slots: &self.slots,
            plan: &self.plan,
            manual_dirty_log: self.manual_dirty_log,
            pagemap: self.pagemap.as_ref(),
            passes: Mutex::new(0),
        };
        let (begin, done) = thread::scope(|scope| {
            // Nothing of the guest runs before this stop is over.
            let running = scene.world.stop(|| {
                let vcpus = self.vcpus.iter_mut().zip(0..);
                let threads: Vec<_> = vcpus
                    .map(|(fd, number)| {
                        let vcpu = Vcpu {
                            number,
                            fd,
                            scene: &scene,
                        };
                        let part = scene.course.part();
                        thread::Builder::new()
                            .name(format!("vcpu{number}"))
                            .spawn_scoped(scope, move || vcpu.run(part))
                            .map_err(|error| scene.course.fail(VmmError::Thread(error)))
                            .ok()
                    })
                    .collect();
                scene.course.wait_until_ready();
                actors::start(scope, &stage);
                if scene.course.stop().is_none()
                    && let Err(error) = hooks.stopped()
                {
                    scene.course.fail(VmmError::Start(error));
                }
                threads
            });
            let begin = Instant::now();
            conduct(&scene, begin, cancel);
            let done: Vec<Option<Done>> = running
                .into_iter()
                .map(|thread| match thread?.join() {
                    Ok(done) => done,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect();
            (begin, done)
        });
        let passes = *super::lock(&stage.passes);
        let (marks, course) = (scene.marks, scene.course);
        if let Some(error) = course.failure() {
            return Err(error);
        }
        let done: Vec<Done> = done.into_iter().flatten().collect();
        let last = done.iter().map(|done| done.at).max().unwrap_or(begin);
        Ok(GuestResult {
            // The guest's own numbers, whatever they are.
            pages: done
                .iter()
                .fold(0, |sum: u64, done| sum.saturating_add(done.pages)),
            marks: marks
                .into_inner()
                .unwrap_or_else(|error| error.into_inner()),
            elapsed: last.saturating_duration_since(begin),
            exits: done.iter().map(|done| done.exits).sum(),
            passes,
        })
    }
}

/// Watches over time, cancel and regular stops until every vCPU has ended.
fn conduct(scene: &Scene<'_>, begin: Instant, cancel: &AtomicBool) {
    let (course, world) = (&scene.course, &scene.world);
    let every = scene.hooks.stops().every;
    let mut next_stop = every;
    let mut pause = Duration::ZERO;
    while course.runs_after(pause) {
        let ran = begin.elapsed();
        if cancel.load(Ordering::Relaxed) {
            course.fail(VmmError::Cancelled);
        } else if ran >= scene.timeout {
            course.time_is_up();
        }
        if course.stop().is_some() {
            world.kick();
            pause = KICK_AGAIN;
            continue;
        }
        if next_stop.is_some_and(|due| ran >= due) {
            if let Err(error) = world.stop(|| scene.stopped()) {
                course.fail(error);
                pause = Duration::ZERO;
                continue;
            }
            // From its end on: the guest has to get its time as well.
            next_stop = every.and_then(|every| begin.elapsed().checked_add(every));
        }
        let due = next_stop.unwrap_or(Duration::MAX).min(scene.timeout);
        pause = due.saturating_sub(begin.elapsed()).min(POLL);
    }
}
