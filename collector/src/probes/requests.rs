//! Requests about the VMs of this process, and about the recording as a whole.

use std::os::fd::RawFd;

use events::{Gfn, HostEvent, Loss, Probe, Seq, VcpuId, VmId};

use super::{
    Probes, RequestError,
    calls::{self, argument},
    object::Plain,
};

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
