//! Requests to copy the shadow pages of a VM, while it is stopped.

use std::{
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, MapData};
use events::{COLLECTOR_MARK_BASE, KEYFRAME_WORKERS, KeyframeCursor, NO_VCPU, VmId};

use super::{Probes, RequestError, maps::lock, object::Plain};
use crate::recording;

/// Runs of the keyframe program after which the list counts as circular: 8 million pages.
const MAX_BATCHES: u32 = 1 << 14;
/// How long a keyframe waits for the drain at a time, and in all without any progress.
const RING_PAUSE: Duration = Duration::from_micros(100);
const RING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages that one thread copies while another one starts.
const FEW_PAGES: u32 = 512;

/// What is done with each page of a VM.
#[derive(Clone, Copy, Debug)]
struct Work {
    vm: VmId,
    /// Of the keyframe.
    number: u32,
    copies: bool,
    /// Enters it into the maps of the probes.
    remembers: bool,
    threads: u32,
}

impl Probes {
    /// Copies every shadow page of an enrolled VM and the root of each of its vCPUs, which are
    /// stopped, told to at `stopped`; answers with the number of pages. It had `expected` at the
    /// keyframe before; `None` if there was none. Waits for the drain where the ring is full.
    pub fn keyframe(
        &self,
        vm: VmId,
        number: u32,
        expected: Option<u32>,
        stopped: Option<Instant>,
    ) -> Result<u32, RequestError> {
        let cursors = lock(&self.maps.cursors);
        let mut work = Work {
            vm,
            number,
            copies: true,
            // The probes know those that were made since.
            remembers: expected.is_none(),
            threads: match expected {
                Some(..FEW_PAGES) => 1,
                _ => threads(),
            },
        };
        let copied = self.pass(&cursors, work)?;
        if !work.remembers && copied.sum != self.known(vm)? {
            // One was made by a thread that is no vCPU's, or had no room.
            (work.copies, work.remembers) = (false, true);
            self.pass(&cursors, work)?;
        }
        self.copy_roots(&cursors, vm, number)?;
        let KeyframeCursor { listed, lost, .. } = copied;
        let args = [
            u64::from(COLLECTOR_MARK_BASE),
            u64::from(vm.0),
            u64::from(NO_VCPU.0),
            u64::from(number),
            u64::from(listed),
            stopped.map_or(0, recording::at_ns),
        ];
        self.run("mark", args)?;
        match lost {
            0 => Ok(listed),
            lost => Err(RequestError::Keyframe {
                number,
                why: format!("{lost} of {listed} shadow pages could not be copied"),
            }),
        }
    }

    /// Passes the list of shadow pages with every thread; what all did together.
    fn pass(&self, cursors: &Cursors, work: Work) -> Result<KeyframeCursor, RequestError> {
        thread::scope(|scope| {
            let others: Vec<_> = (1..work.threads)
                .map(|worker| {
                    let copier = thread::Builder::new().name("keyframe".to_owned());
                    let part = move || self.part(cursors, work, worker);
                    // Without another thread this one does its part too.
                    (worker, copier.spawn_scoped(scope, part))
                })
                .collect();
            let mut all = self.part(cursors, work, 0);
            for (worker, other) in others {
                let part = match other.map(thread::ScopedJoinHandle::join) {
                    Ok(Ok(part)) => part,
                    Ok(Err(panic)) => std::panic::resume_unwind(panic),
                    Err(_) => self.part(cursors, work, worker),
                };
                all = together(all?, part?, work.number);
            }
            all
        })
    }

    /// Runs `keyframe` until one thread has passed the list of shadow pages.
    fn part(
        &self,
        cursors: &Cursors,
        work: Work,
        worker: u32,
    ) -> Result<KeyframeCursor, RequestError> {
        let mut before = 0;
        let mut room = Room::new(work.number);
        for batch in 0..MAX_BATCHES {
            let args = [
                u64::from(work.vm.0),
                u64::from(work.number),
                u64::from(worker),
                u64::from(work.threads),
                u64::from(batch == 0),
                u64::from(work.copies),
                u64::from(work.remembers),
            ];
            self.run("keyframe", args)?;
            let cursor = cursor(cursors, worker)?;
            if cursor.failed != 0 {
                return Err(changed(work.number));
            }
            if cursor.done != 0 {
                return Ok(cursor);
            }
            room.wait(cursor.listed != before)?;
            before = cursor.listed;
        }
        Err(RequestError::Keyframe {
            number: work.number,
            why: "the list of shadow pages does not end".to_owned(),
        })
    }

    /// Addresses of the pages of a VM that the probes know, added up.
    fn known(&self, vm: VmId) -> Result<u64, RequestError> {
        let known = self.maps.known.get(&vm.0.into(), 0);
        known.map_err(|source| RequestError::Map {
            name: "KNOWN",
            source,
        })
    }

    /// Runs `keyframe_root` for each vCPU.
    fn copy_roots(&self, cursors: &Cursors, vm: VmId, number: u32) -> Result<(), RequestError> {
        for (done, vcpu) in (1..).zip(self.seen_vcpus(vm)?) {
            let mut room = Room::new(number);
            loop {
                let args = [u64::from(vm.0), u64::from(number), u64::from(vcpu.0), 0, 0];
                self.run("keyframe_root", args)?;
                let cursor = cursor(cursors, 0)?;
                if cursor.failed != 0 {
                    return Err(RequestError::Keyframe {
                        number,
                        why: format!("the root of vCPU {} could not be copied", vcpu.0),
                    });
                }
                if cursor.vcpus == done {
                    break;
                }
                room.wait(false)?;
            }
        }
        Ok(())
    }
}

/// How many threads copy a VM's pages: a power of two.
fn threads() -> u32 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let most = u32::try_from(cores).unwrap_or(KEYFRAME_WORKERS);
    1 << most.min(KEYFRAME_WORKERS).ilog2()
}

/// Two threads' parts of a keyframe.
fn together(
    a: KeyframeCursor,
    b: KeyframeCursor,
    number: u32,
) -> Result<KeyframeCursor, RequestError> {
    if a.listed != b.listed {
        return Err(changed(number));
    }
    Ok(KeyframeCursor {
        sum: a.sum.wrapping_add(b.sum),
        lost: a.lost + b.lost,
        ..a
    })
}

fn changed(number: u32) -> RequestError {
    RequestError::Keyframe {
        number,
        why: "the list of shadow pages changed while it was copied".to_owned(),
    }
}

/// How far each thread has come with a keyframe.
type Cursors = Array<MapData, Plain<KeyframeCursor>>;

fn cursor(cursors: &Cursors, worker: u32) -> Result<KeyframeCursor, RequestError> {
    let Plain(cursor) = cursors
        .get(&worker, 0)
        .map_err(|source| RequestError::Map {
            name: "CURSOR",
            source,
        })?;
    Ok(cursor)
}

/// Waits for room in the ring.
struct Room {
    keyframe: u32,
    waited: Duration,
}

impl Room {
    fn new(keyframe: u32) -> Self {
        Self {
            keyframe,
            waited: Duration::ZERO,
        }
    }

    /// After a run of the program: waits if it made no progress, with a limit.
    fn wait(&mut self, progress: bool) -> Result<(), RequestError> {
        if progress {
            self.waited = Duration::ZERO;
        } else if self.waited < RING_TIMEOUT {
            thread::sleep(RING_PAUSE);
            self.waited += RING_PAUSE;
        } else {
            return Err(RequestError::RingFull {
                number: self.keyframe,
                seconds: RING_TIMEOUT.as_secs(),
            });
        }
        Ok(())
    }
}
