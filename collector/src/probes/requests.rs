//! Requests about the VMs of this process, and about the recording as a whole.

use std::{
    os::fd::RawFd,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, MapData};
use events::{
    COLLECTOR_MARK_BASE, Gfn, HostEvent, KeyframeCursor, Loss, NO_VCPU, Probe, Seq, VcpuId, VmId,
};

use super::{
    Probes, RequestError,
    calls::{self, argument},
    maps::lock,
    object::Plain,
};
use crate::recording;

/// Runs of the keyframe program after which the list counts as circular: 8 million pages.
const MAX_BATCHES: u32 = 1 << 18;
/// How long a keyframe waits for the drain at a time, and in all without any progress.
const RING_PAUSE: Duration = Duration::from_millis(1);
const RING_TIMEOUT: Duration = Duration::from_secs(10);

impl Probes {
    /// Runs a program in the context of the calling thread; the answer is in a map.
    pub(super) fn run<const ARGS: usize>(
        &self,
        name: &'static str,
        args: [u64; ARGS],
    ) -> Result<(), RequestError> {
        calls::run(&self.ebpf, name, args)
    }

    /// From now on records what the calling thread does as vCPU of a VM, both of which are this
    /// process's own. Keyframes of the VM can be taken afterwards.
    pub fn enrol(
        &self,
        vm_fd: RawFd,
        vcpu_fd: RawFd,
        vm: VmId,
        vcpu: VcpuId,
    ) -> Result<(), RequestError> {
        let args = [
            argument(vm_fd)?,
            argument(vcpu_fd)?,
            u64::from(vm.0),
            u64::from(vcpu.0),
            0,
        ];
        self.run("enrol", args)?;
        let entered = self
            .maps
            .vcpus
            .iter()
            .flatten()
            .any(|(_, Plain(entry))| (entry.vm, entry.vcpu) == (vm, vcpu));
        if entered {
            Ok(())
        } else {
            Err(RequestError::Empty("enrol"))
        }
    }

    /// Records that a guest phase begins.
    pub fn mark(
        &self,
        vm: VmId,
        vcpu: VcpuId,
        phase: u32,
        guest_tsc: u64,
    ) -> Result<(), RequestError> {
        // A mark without room is counted as lost by the program itself.
        let args = [
            u64::from(phase),
            u64::from(vm.0),
            u64::from(vcpu.0),
            0,
            guest_tsc,
        ];
        self.run("mark", args)
    }

    /// Records that this process did `event` to frames of its VM, whose vCPUs it has stopped, and
    /// the leaf entries of those frames as they are now. Only where functions cannot be hooked.
    pub fn acted(
        &self,
        vm: VmId,
        event: HostEvent,
        slot: u16,
        frames: (Gfn, u64),
    ) -> Result<(), RequestError> {
        // What finds no room is counted as lost by the program itself.
        let (first, count) = frames;
        let args = [vm.0.into(), event as u64, slot.into(), first.0, count];
        self.run("acted", args)
    }

    /// Copies every shadow page of an enrolled VM and the root of each of its vCPUs, which are
    /// stopped, told to at `stopped`; answers with the number of pages. Waits for the drain where the ring is full.
    pub fn keyframe(
        &self,
        vm: VmId,
        number: u32,
        stopped: Option<Instant>,
    ) -> Result<u32, RequestError> {
        let cursor = lock(&self.maps.cursor);
        let copied = self.copy_pages(&cursor, vm, number)?;
        self.copy_roots(&cursor, vm, number)?;
        let listed = u64::from(copied.pages) + u64::from(copied.lost);
        let args = [
            u64::from(COLLECTOR_MARK_BASE),
            u64::from(vm.0),
            u64::from(NO_VCPU.0),
            u64::from(number),
            listed,
            stopped.map_or(0, recording::at_ns),
        ];
        self.run("mark", args)?;
        match copied.lost {
            0 => Ok(copied.pages),
            lost => Err(RequestError::Keyframe {
                number,
                why: format!("{lost} of {listed} shadow pages could not be copied"),
            }),
        }
    }

    /// Runs `keyframe` until the list of shadow pages has been copied.
    fn copy_pages(
        &self,
        cursor: &Cursor,
        vm: VmId,
        number: u32,
    ) -> Result<KeyframeCursor, RequestError> {
        let failed = |why: &str| RequestError::Keyframe {
            number,
            why: why.to_owned(),
        };
        let mut before = KeyframeCursor::default();
        let mut room = Room::new(number);
        for batch in 0..MAX_BATCHES {
            let begin = u64::from(batch == 0);
            let args = [u64::from(vm.0), u64::from(number), begin, 0, 0];
            self.run("keyframe", args)?;
            let state = state(cursor)?;
            if state.failed != 0 {
                return Err(failed(
                    "the list of shadow pages changed while it was copied",
                ));
            }
            if state.done != 0 {
                return Ok(state);
            }
            room.wait((state.pages, state.lost) != (before.pages, before.lost))?;
            before = state;
        }
        Err(failed("the list of shadow pages does not end"))
    }

    /// Runs `keyframe_root` for each vCPU.
    fn copy_roots(&self, cursor: &Cursor, vm: VmId, number: u32) -> Result<(), RequestError> {
        for (done, vcpu) in (1..).zip(self.seen_vcpus(vm)?) {
            let mut room = Room::new(number);
            loop {
                let args = [u64::from(vm.0), u64::from(number), u64::from(vcpu.0), 0, 0];
                self.run("keyframe_root", args)?;
                let state = state(cursor)?;
                if state.failed != 0 {
                    return Err(RequestError::Keyframe {
                        number,
                        why: format!("the root of vCPU {} could not be copied", vcpu.0),
                    });
                }
                if state.vcpus == done {
                    break;
                }
                room.wait(false)?;
            }
        }
        Ok(())
    }

    /// The sequence number that the next record gets.
    pub fn next_seq(&self) -> Result<Seq, RequestError> {
        self.maps
            .seq
            .get(&0, 0)
            .map(Seq)
            .map_err(|source| RequestError::Map {
                name: "SEQ",
                source,
            })
    }

    /// What each probe lost so far, all CPUs together.
    pub fn losses(&self) -> Result<Vec<(Probe, Loss)>, RequestError> {
        Probe::ALL
            .into_iter()
            .map(|probe| {
                let cpus = self.maps.losses.get(&(probe as u32), 0).map_err(|source| {
                    RequestError::Map {
                        name: "LOSSES",
                        source,
                    }
                })?;
                let sum = cpus
                    .iter()
                    .map(|Plain(loss)| *loss)
                    .filter(|loss| loss.count > 0)
                    .reduce(|a, b| Loss {
                        count: a.count + b.count,
                        first: a.first.min(b.first),
                        last: a.last.max(b.last),
                    });
                Ok((probe, sum.unwrap_or_default()))
            })
            .collect()
    }
}

/// How far a keyframe has come.
type Cursor = Array<MapData, Plain<KeyframeCursor>>;

fn state(cursor: &Cursor) -> Result<KeyframeCursor, RequestError> {
    let Plain(state) = cursor.get(&0, 0).map_err(|source| RequestError::Map {
        name: "CURSOR",
        source,
    })?;
    Ok(state)
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
