//! A run: one thread for each vCPU and each actor, conducted by the calling thread.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuFd;

use super::Vmm;
use super::actors::{self, Context};
use super::disturbance::Disturbances;
use super::error::VmmError;
use super::hooks::Hooks;
use super::lifecycle::Lifecycle;
use super::lock::lock;
use super::mmio::MmioRanges;
use super::shared::{GuestMark, Shared};
use super::vcpu::{Vcpu, VcpuResult};
use super::world::{KICK_AGAIN, World};

/// Maximum time from setting `cancel` to the kick.
const POLL: Duration = Duration::from_millis(50);

/// The result of a guest that did its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestResult {
    /// Pages that the guest checked and found correct, all vCPUs together.
    pub pages: u64,
    /// The marks, in the order of their arrival.
    pub marks: Vec<GuestMark>,
    /// Wall-clock time from the first `KVM_RUN` to the guest's last call, hooks included.
    pub elapsed: Duration,
    /// Returns of `KVM_RUN` to this process, all vCPUs together.
    pub exits: u64,
    /// Passes of the actors.
    pub passes: u64,
}

impl Vmm {
    /// Runs all vCPUs until the guest is done on each, and the actors meanwhile.
    ///
    /// Every vCPU is kicked out of the guest when `timeout` is over or `cancel` is set, at most
    /// 50 ms later, and when another one has failed.
    ///
    /// # Errors
    /// The first failure: see [`VmmError`]. The VM cannot be run again.
    pub fn run(
        &mut self,
        hooks: &dyn Hooks,
        timeout: Duration,
        cancel: &AtomicBool,
    ) -> Result<GuestResult, VmmError> {
        let shared = Shared {
            world: World::new().map_err(VmmError::Signal)?,
            lifecycle: Lifecycle::new(self.vcpus.len()),
            disturbances: Disturbances::default(),
            ram: &self.ram,
            mmio: MmioRanges::of(&self.plan),
            hooks,
            timeout,
            confined: self.confined,
            marks: Mutex::default(),
            acts: Mutex::default(),
        };
        let context = Context {
            shared: &shared,
            vm: &self.vm,
            slots: &self.slots,
            plan: &self.plan,
            manual_dirty_log: self.manual_dirty_log,
            pagemap: self.pagemap.as_ref(),
            passes: Mutex::new(0),
        };
        let (begin, results): (_, Vec<VcpuResult>) = thread::scope(|scope| {
            // No vCPU enters the guest before this stop ends.
            let running = shared.world.stop(|| {
                let threads = start(scope, &mut self.vcpus, &shared);
                shared.lifecycle.wait_until_ready();
                actors::start(scope, &context);
                if shared.lifecycle.stop().is_none()
                    && let Err(error) = hooks.stopped(None)
                {
                    shared.lifecycle.fail(VmmError::Start(error));
                }
                threads
            });
            let begin = Instant::now();
            conduct(&shared, begin, cancel);
            (begin, running.into_iter().filter_map(join).collect())
        });
        let passes = *lock(&context.passes);
        let marks = std::mem::take(&mut *lock(&shared.marks));
        if let Some(error) = shared.lifecycle.failure() {
            return Err(error);
        }
        let last = results.iter().map(|result| result.at).max();
        let pages = results.iter().map(|result| result.pages);
        Ok(GuestResult {
            // The guest's numbers are not trusted.
            pages: pages.fold(0, u64::saturating_add),
            marks,
            elapsed: last.unwrap_or(begin).saturating_duration_since(begin),
            exits: results.iter().map(|result| result.exits).sum(),
            passes,
        })
    }
}

type VcpuThread<'scope> = ScopedJoinHandle<'scope, Option<VcpuResult>>;

/// Starts the vCPUs' threads.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    vcpus: &'scope mut [VcpuFd],
    shared: &'scope Shared<'_>,
) -> Vec<VcpuThread<'scope>> {
    let spawn = |(fd, number)| {
        let vcpu = Vcpu { number, fd, shared };
        let guard = shared.lifecycle.vcpu_guard();
        let thread = thread::Builder::new()
            .name(format!("vcpu{number}"))
            .spawn_scoped(scope, move || vcpu.run(guard));
        thread
            .map_err(|error| shared.lifecycle.fail(VmmError::Thread(error)))
            .ok()
    };
    vcpus.iter_mut().zip(0..).filter_map(spawn).collect()
}

fn join(thread: VcpuThread<'_>) -> Option<VcpuResult> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Handles the timeout, the cancel flag and regular stops until every vCPU has ended.
fn conduct(shared: &Shared<'_>, begin: Instant, cancel: &AtomicBool) {
    let (lifecycle, world) = (&shared.lifecycle, &shared.world);
    let every = shared.hooks.stops().every;
    let mut next_stop = every.map(|every| every.pause(Duration::ZERO));
    let mut pause = Duration::ZERO;
    while lifecycle.runs_after(pause) {
        let ran = begin.elapsed();
        if cancel.load(Ordering::Relaxed) {
            lifecycle.fail(VmmError::Cancelled);
        } else if ran >= shared.timeout {
            lifecycle.set_timeout();
        }
        if lifecycle.stop().is_some() {
            world.kick();
            pause = KICK_AGAIN;
            continue;
        }
        if next_stop.is_some_and(|due| ran >= due) {
            if let Err(error) = world.stop(|| shared.stopped()) {
                lifecycle.fail(error);
                pause = Duration::ZERO;
                continue;
            }
            // Counted from the end of the stop, so that the guest gets its time.
            let now = begin.elapsed();
            let apart = every.map(|every| every.pause(now.saturating_sub(ran)));
            next_stop = apart.and_then(|apart| now.checked_add(apart));
        }
        let due = next_stop.unwrap_or(Duration::MAX).min(shared.timeout);
        pause = due.saturating_sub(begin.elapsed()).min(POLL);
    }
}
