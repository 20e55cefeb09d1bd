//! The maps of the probes that user space reads and writes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray},
};
use events::{CounterWords, Identity, KeyframeCursor, Loss, SlotAnswer, Vcpu, VcpuKey};

use super::object::{LoadError, Plain, take};

/// The maps. An answer is locked while the program that writes it is run and read.
pub struct Maps {
    /// By thread id.
    pub vcpus: HashMap<MapData, u32, Plain<Vcpu>>,
    /// How far each thread has come with a keyframe.
    pub cursors: Mutex<Array<MapData, Plain<KeyframeCursor>>>,
    /// Addresses of the pages that the probes know of a VM, added up.
    pub known: Array<MapData, u64>,
    /// The next sequence number.
    pub seq: Array<MapData, u64>,
    /// Indexed by [`events::Probe`].
    pub losses: PerCpuArray<MapData, Plain<Loss>>,
    /// Not 0 if every change outside a fault has its own record.
    pub sees_every_change: Array<MapData, u32>,
    /// Answer of `identify`.
    pub identity: Mutex<Array<MapData, Plain<Identity>>>,
    /// Answer of `counters`.
    pub counters: Mutex<Array<MapData, Plain<CounterWords>>>,
    /// Answer of `memslot`.
    pub memslot: Mutex<Array<MapData, Plain<SlotAnswer>>>,
    /// `struct kvm_vcpu` of each vCPU that was seen.
    pub vcpu_structs: HashMap<MapData, Plain<VcpuKey>, u64>,
}

impl Maps {
    /// Takes them out of the object.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            vcpus: take(ebpf, "VCPUS")?,
            cursors: Mutex::new(take(ebpf, "CURSOR")?),
            known: take(ebpf, "KNOWN")?,
            seq: take(ebpf, "SEQ")?,
            losses: take(ebpf, "LOSSES")?,
            sees_every_change: take(ebpf, "SEES_EVERY_CHANGE")?,
            identity: Mutex::new(take(ebpf, "IDENTITY")?),
            counters: Mutex::new(take(ebpf, "COUNTERS")?),
            memslot: Mutex::new(take(ebpf, "MEMSLOT")?),
            vcpu_structs: take(ebpf, "VCPU_STRUCTS")?,
        })
    }
}

/// A thread that panicked with the lock leaves plain numbers, which are still right.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
