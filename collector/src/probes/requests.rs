//! Requests about the VMs of this process, and about the recording as a whole.

use std::{os::fd::RawFd, thread, time::Duration};

use events::{
    COLLECTOR_MARK_BASE, Gfn, HostEvent, KeyframeCursor, Loss, NO_VCPU, Probe, Seq, VcpuId, VmId,
};

use super::{
    Probes, RequestError,
    calls::{self, argument},
    maps::lock,
    object::Plain,
};

/// Runs of the keyframe program after which the list is taken to be circular: 8 million pages.
const MAX_BATCHES: u32 = 1 << 18;
/// How long a keyframe waits for the drain at a time, and in all without any progress.
const RING_PAUSE: Duration = Duration::from_millis(1);
const RING_TIMEOUT: Duration = Duration::from_secs(10);

impl Probes {
    /// Runs a program in the context of the calling thread; the answer is in a map.
    pub(super) fn run(&self, name: &'static str, args: [u64; 5]) -> Result<(), RequestError> {
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

    /// Copies every shadow page of an enrolled VM whose vCPUs are stopped; answers with their
    /// number. Waits for the drain where the ring is full.
    pub fn keyframe(&self, vm: VmId, number: u32) -> Result<u32, RequestError> {
        let failed = |why: String| RequestError::Keyframe { number, why };
        let cursor = lock(&self.maps.cursor);
        let mut before = KeyframeCursor::default();
        let mut waited = Duration::ZERO;
        for batch in 0..MAX_BATCHES {
            let begin = u64::from(batch == 0);
            self.run(
                "keyframe",
                [u64::from(vm.0), u64::from(number), begin, 0, 0],
            )?;
            let Plain(state) = cursor.get(&0, 0).map_err(|source| RequestError::Map {
                name: "CURSOR",
                source,
            })?;
            if state.failed != 0 {
                return Err(failed(
                    "the list of shadow pages changed while it was copied".to_owned(),
                ));
            }
            if state.done != 0 {
                let mark = u64::from(COLLECTOR_MARK_BASE);
                let vcpu = u64::from(NO_VCPU.0);
                let listed = u64::from(state.pages) + u64::from(state.lost);
                self.run(
                    "mark",
                    [mark, u64::from(vm.0), vcpu, u64::from(number), listed],
                )?;
                return match state.lost {
                    0 => Ok(state.pages),
                    lost => Err(failed(format!(
                        "{lost} of {listed} shadow pages could not be copied"
                    ))),
                };
            }
            if (state.pages, state.lost) != (before.pages, before.lost) {
                before = state;
                waited = Duration::ZERO;
            } else if waited < RING_TIMEOUT {
                thread::sleep(RING_PAUSE);
                waited += RING_PAUSE;
            } else {
                return Err(failed(format!(
                    "the ring stayed full for {} s",
                    RING_TIMEOUT.as_secs()
                )));
            }
        }
        Err(failed("the list of shadow pages does not end".to_owned()))
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
