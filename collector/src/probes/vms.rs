//! Requests about VMs that other processes run, and the program that follows their vCPUs.

use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use events::{
    COUNTER_WORDS, Identity, NO_VCPU, NO_VM, SlotAnswer, VcpuId, VmId, constants::MEMSLOT_BUCKETS,
};

use super::{KernelTypes, Probes, RequestError, calls::argument, maps::lock, object::Plain};

/// What a file descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// `anon_inode:kvm-vm`
    Vm,
    /// `anon_inode:kvm-vcpu:N`
    Vcpu,
}

impl Object {
    fn argument(self) -> u64 {
        match self {
            Object::Vm => 0,
            Object::Vcpu => 1,
        }
    }
}

/// Where KVM's counters of VMs and of vCPUs are, by the names that `KVM_GET_STATS_FD` gives.
#[derive(Clone, Debug)]
pub struct CounterNames {
    vm: Block,
    vcpu: Block,
}

/// The memslots of a VM at a moment.
#[derive(Debug)]
pub struct Memslots {
    /// Number of the set, which each change of a memslot increases.
    pub generation: u64,
    /// By their first frame.
    pub slots: Vec<SlotAnswer>,
}

/// Counters of one struct: offset and length in bytes, and the names with the index of their word.
#[derive(Clone, Debug, Default)]
struct Block {
    start: u32,
    bytes: u32,
    names: Vec<(String, usize)>,
}

impl CounterNames {
    /// From the kernel's types; empty where they do not have them.
    pub fn of(types: &KernelTypes) -> Self {
        Self {
            vm: Block::new(types.offset("kvm", "stat"), types.counters("kvm_vm_stat")),
            vcpu: Block::new(
                types.offset("kvm_vcpu", "stat"),
                types.counters("kvm_vcpu_stat"),
            ),
        }
    }

    /// Offset and bytes, for the probes: of a VM, of a vCPU.
    pub fn places(&self) -> [[u32; 2]; 2] {
        [&self.vm, &self.vcpu].map(|block| [block.start, block.bytes])
    }
}

impl Block {
    /// `counters` are in a struct at `start`.
    fn new(start: Option<u32>, counters: Vec<(String, u32)>) -> Self {
        let Some(start) = start else {
            return Self::default();
        };
        let words = |at: u32| {
            usize::try_from(at / 8)
                .ok()
                .filter(|word| *word < COUNTER_WORDS)
        };
        let end = counters
            .iter()
            .filter_map(|(_, at)| words(*at).and(at.checked_add(8)))
            .max();
        let names = counters
            .into_iter()
            .filter_map(|(name, at)| Some((name, words(at)?)));
        Self {
            start,
            bytes: end.unwrap_or(0),
            names: names.collect(),
        }
    }
}

/// KVM's counters of one VM or vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterValues {
    /// By the kernel's names.
    pub by_name: BTreeMap<String, u64>,
    /// Shadow pages in use; 0 for a vCPU.
    pub shadow_pages: u64,
}

impl Probes {
    /// Whose descriptor of this process it is; a traced VM's vCPU is remembered.
    pub fn identify(
        &self,
        descriptor: BorrowedFd<'_>,
        object: Object,
    ) -> Result<Identity, RequestError> {
        let identity = lock(&self.maps.identity);
        self.run(
            "identify",
            [
                argument(descriptor.as_raw_fd())?,
                object.argument(),
                0,
                0,
                0,
            ],
        )?;
        let Plain(found) = identity.get(&0, 0).map_err(|source| RequestError::Map {
            name: "IDENTITY",
            source,
        })?;
        match found.kvm {
            0 => Err(RequestError::Empty("identify")),
            _ => Ok(found),
        }
    }

    /// From now on traces the VM of a descriptor of this process. The descriptor must stay
    /// open until [`Probes::forget`]: it keeps the kernel's structs of the VM.
    pub fn follow(
        &self,
        descriptor: BorrowedFd<'_>,
        object: Object,
        vm: VmId,
    ) -> Result<(), RequestError> {
        self.run(
            "follow",
            [
                argument(descriptor.as_raw_fd())?,
                object.argument(),
                u64::from(vm.0),
                0,
                0,
            ],
        )?;
        match self.identify(descriptor, object)?.vm {
            found if found == vm => Ok(()),
            NO_VM => Err(RequestError::Empty("follow")),
            other => Err(RequestError::Followed(other)),
        }
    }

    /// vCPUs of a followed VM that were seen so far.
    pub fn seen_vcpus(&self, vm: VmId) -> Result<Vec<VcpuId>, RequestError> {
        let mut vcpus = Vec::new();
        for key in self.maps.vcpu_structs.keys() {
            let Plain(key) = key.map_err(|source| RequestError::Map {
                name: "VCPU_STRUCTS",
                source,
            })?;
            if key.vm == vm {
                vcpus.push(key.vcpu);
            }
        }
        vcpus.sort_unstable();
        vcpus.dedup();
        Ok(vcpus)
    }

    /// KVM's own counters of a followed VM, or of one of its vCPUs.
    pub fn counters(
        &self,
        names: &CounterNames,
        vm: VmId,
        vcpu: Option<VcpuId>,
    ) -> Result<CounterValues, RequestError> {
        let cell = lock(&self.maps.counters);
        let id = vcpu.unwrap_or(NO_VCPU);
        self.run("counters", [u64::from(vm.0), u64::from(id.0), 0, 0, 0])?;
        let Plain(found) = cell.get(&0, 0).map_err(|source| RequestError::Map {
            name: "COUNTERS",
            source,
        })?;
        if found.read == 0 {
            return Err(RequestError::Empty("counters"));
        }
        let block = if vcpu.is_some() {
            &names.vcpu
        } else {
            &names.vm
        };
        let by_name: BTreeMap<_, _> = block
            .names
            .iter()
            .map(|(name, word)| (name.clone(), found.words[*word]))
            .collect();
        // Linux 7.2 counts them with the others.
        let shadow_pages = by_name
            .get("mmu_shadow_pages")
            .copied()
            .unwrap_or(found.used_mmu_pages);
        Ok(CounterValues {
            by_name,
            shadow_pages,
        })
    }

    /// Memslots of a followed VM that is stopped, of its first address space; `None` if their
    /// generation is still the one that is `known`.
    pub fn memslots(&self, vm: VmId, known: Option<u64>) -> Result<Option<Memslots>, RequestError> {
        let cell = lock(&self.maps.memslot);
        let at = |bucket: u64, place: u64| {
            self.run("memslot", [vm.0.into(), bucket, place, 0, 0])?;
            let Plain(slot) = cell.get(&0, 0).map_err(|source| RequestError::Map {
                name: "MEMSLOT",
                source,
            })?;
            Ok::<_, RequestError>(slot)
        };
        let generation = at(0, 0)?.generation;
        // Zero: there was none yet, or the probe could not read it.
        if generation != 0 && known == Some(generation) {
            return Ok(None);
        }
        let mut slots = Vec::new();
        for bucket in 0..MEMSLOT_BUCKETS {
            for place in 0.. {
                let slot = at(bucket, place)?;
                if slot.pages == 0 {
                    break;
                }
                slots.push(slot);
            }
        }
        slots.sort_by_key(|slot| slot.base);
        Ok(Some(Memslots { generation, slots }))
    }

    /// KVM's count of faults taken (`pf_taken`) as the probes saw it last, of each vCPU whose thread
    /// they know.
    pub fn faults_taken(&self) -> Result<BTreeMap<(VmId, VcpuId), u64>, RequestError> {
        let mut taken = BTreeMap::new();
        for entry in &self.maps.vcpus {
            let (_, Plain(vcpu)) = entry.map_err(|source| RequestError::Map {
                name: "VCPUS",
                source,
            })?;
            // A vCPU that changed its thread has several entries.
            let of: &mut u64 = taken.entry((vcpu.vm, vcpu.vcpu)).or_default();
            *of = vcpu.outcomes.taken.max(*of);
        }
        Ok(taken)
    }

    /// Finds the threads of a VM's vCPUs that are in a KVM_RUN since before it was followed. For VMs
    /// that are not stopped.
    pub fn seat(&self, vm: VmId) -> Result<(), RequestError> {
        for vcpu in self.seen_vcpus(vm)? {
            self.run("seat", [vm.0.into(), vcpu.0.into(), 0, 0, 0])?;
        }
        Ok(())
    }

    /// Does not trace the VM any more; its descriptor may be closed then.
    pub fn forget(&self, vm: VmId) -> Result<(), RequestError> {
        let mut threads = Vec::new();
        for entry in &self.maps.vcpus {
            let (thread, Plain(vcpu)) = entry.map_err(|source| RequestError::Map {
                name: "VCPUS",
                source,
            })?;
            if vcpu.vm == vm {
                threads.push(thread);
            }
        }
        let forget = |thread: u32, vcpu: VcpuId| {
            let args = [u64::from(vm.0), thread.into(), vcpu.0.into(), 0, 0];
            self.run("forget", args)
        };
        // The VM first: after that no thread is entered.
        forget(0, NO_VCPU)?;
        for vcpu in self.seen_vcpus(vm)? {
            forget(0, vcpu)?;
        }
        for thread in threads {
            forget(thread, NO_VCPU)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Block;

    #[test]
    fn a_block_spans_its_counters() {
        let counters = [("b", 8), ("a", 0), ("far", 8 * 256)];
        let counters = counters.map(|(name, at)| (name.to_owned(), at));
        let block = Block::new(Some(40), counters.to_vec());
        assert_eq!((block.start, block.bytes), (40, 16));
        assert_eq!(block.names.len(), 2);
        assert_eq!(Block::new(None, counters.to_vec()).bytes, 0);
    }
}
