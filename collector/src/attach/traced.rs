//! One traced VM of another process.

use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::OwnedFd,
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use events::{Seq, SlotAnswer, VcpuId, VmId};
use trace::{Begin, Counters, Memslot, VmMeta};

use crate::{
    host,
    keyframe::Keyframes,
    probes::{CounterNames, Probes, RequestError},
    recording,
    vms::Holder,
};

/// KVM's counters.
type ByName = BTreeMap<String, u64>;

/// How often the last keyframe is taken until the counters are of the same moment.
const LAST_TRIES: u32 = 4;

/// KVM's counters at a moment at which the vCPUs are stopped.
#[derive(Debug)]
struct Start {
    /// The number that the next record gets.
    seq: Seq,
    vm: ByName,
    vcpus: BTreeMap<VcpuId, ByName>,
}

/// Where the trace of a VM may begin: of a recording that keeps its last part, that is not known
/// before its end.
#[derive(Debug, Default)]
pub struct Starts {
    /// The first record of the VM has this number or a higher one.
    begun: Seq,
    /// One for each section of the ring.
    later: VecDeque<Start>,
}

impl Starts {
    /// Forgets what is not the trace's any more.
    pub fn forget_before(&mut self, begin: Begin) {
        self.later.retain(|start| start.seq.0 >= begin.seq);
    }

    /// Sets the counters to those from which on the trace has every record of the VM. If nothing
    /// proves that, there are none to compare.
    pub fn settle(&self, meta: &mut VmMeta, begin: Begin) {
        let gone = |slot: &Memslot| slot.until_ns.is_some_and(|until| until < begin.time_ns);
        meta.memslots.retain(|slot| !gone(slot));
        meta.memslots_changed
            .retain(|[_, until]| *until >= begin.time_ns);
        if self.begun.0 >= begin.seq {
            return;
        }
        let mut later = self.later.iter();
        let (Some(start), Some(after)) = (
            later.find(|start| start.seq.0 >= begin.seq),
            &meta.counters_after,
        ) else {
            meta.counters_after = None;
            return;
        };
        let vcpus = meta.vcpus.iter().zip(&after.vcpus);
        let vcpus = vcpus.map(|(vcpu, after)| match start.vcpus.get(&VcpuId(*vcpu)) {
            Some(before) => before.clone(),
            None => zeros(after),
        });
        meta.counters_before = Counters {
            vcpus: vcpus.collect(),
            vm: start.vm.clone(),
        };
        meta.counters_seq = Some(start.seq.0);
    }
}

/// The counters of a vCPU that was created later.
fn zeros(values: &ByName) -> ByName {
    values.keys().map(|name| (name.clone(), 0)).collect()
}

/// A VM from its first keyframe on.
#[derive(Debug)]
pub struct TracedVm {
    /// Its process.
    pub process: Arc<Holder>,
    /// What the trace says of it.
    pub meta: VmMeta,
    /// Where its trace may begin.
    pub starts: Starts,
    /// Keeps its structs in the kernel while the probes and keyframes read them.
    _kept: OwnedFd,
    probes: Arc<Probes>,
    keyframes: Keyframes,
    /// When the VM was stopped last, ns.
    looked_ns: u64,
    /// Of the memslots at the last look.
    generation: Option<u64>,
    before: BTreeMap<VcpuId, ByName>,
}

impl TracedVm {
    /// Of a VM that is followed and stopped, since `stopped`: its counters and tables as they are now.
    pub fn begin(
        vm: VmId,
        process: Arc<Holder>,
        kept: OwnedFd,
        stopped: Instant,
        probes: &Arc<Probes>,
        names: &CounterNames,
    ) -> Result<Self, RequestError> {
        let starts = Starts {
            begun: probes.next_seq()?,
            ..Starts::default()
        };
        let before = vcpu_counters(probes, names, vm)?;
        let meta = VmMeta {
            vm: vm.0,
            pid: process.number(),
            name: process.name.clone(),
            mode: host::mode(),
            vcpus: before.keys().map(|vcpu| vcpu.0).collect(),
            from_ns: recording::now_ns(),
            counters_before: Counters {
                vm: probes.counters(names, vm, None)?.by_name,
                vcpus: before.values().cloned().collect(),
            },
            ..VmMeta::default()
        };
        let mut traced = Self {
            process,
            meta,
            starts,
            _kept: kept,
            probes: Arc::clone(probes),
            keyframes: Keyframes::new(Arc::clone(probes), vm),
            looked_ns: 0,
            generation: None,
            before,
        };
        traced.keyframe(Some(stopped))?;
        Ok(traced)
    }

    /// Its number.
    pub fn vm(&self) -> VmId {
        VmId(self.meta.vm)
    }

    /// Copies its tables, and notes its memslots; it must be stopped, and was told to at `stopped`,
    /// unless it is gone.
    pub fn keyframe(&mut self, stopped: Option<Instant>) -> Result<(), RequestError> {
        let found = self.probes.memslots(self.vm(), self.generation)?;
        let now = recording::now_ns();
        if let Some(found) = found {
            note_memslots(&mut self.meta, &found.slots, self.looked_ns, now);
            self.generation = Some(found.generation);
        }
        self.looked_ns = now;
        self.keyframes.take(stopped).map(|_| ())
    }

    /// Copies its tables, and notes its counters, so that the trace may begin here; it must be
    /// stopped.
    pub fn section(
        &mut self,
        names: &CounterNames,
        stopped: Option<Instant>,
    ) -> Result<(), RequestError> {
        let (probes, vm) = (&self.probes, self.vm());
        self.starts.later.push_back(Start {
            seq: probes.next_seq()?,
            vm: probes.counters(names, vm, None)?.by_name,
            vcpus: vcpu_counters(probes, names, vm)?,
        });
        self.keyframe(stopped)
    }

    /// Takes the last keyframe and counters of a VM that is stopped or gone, and stops tracing it.
    /// `ended` says why, if it ended by itself.
    pub fn end(
        &mut self,
        ended: Option<&str>,
        stopped: Option<Instant>,
        probes: &Probes,
        names: &CounterNames,
    ) -> anyhow::Result<()> {
        let vm = self.vm();
        let (keyframe, counted) = self.last_moment(stopped, probes, names);
        let keyframe = keyframe.context("while copying the shadow tables at the end");
        let counted = counted.and_then(|vm| self.count(vm, probes, names));
        let forgotten = probes.forget(vm);
        if let Some(why) = ended {
            self.meta.until_ns = Some(recording::now_ns());
            self.meta.ended = Some(why.to_owned());
        }
        let result = counted
            .and(forgotten)
            .with_context(|| format!("while detaching from VM {}", vm.0));
        keyframe.and(result)
    }

    /// The last keyframe, and the VM's counters of the same moment. The vCPUs are stopped, but the
    /// host may take memory away, and a thread of the kernel shadow pages (the shrinker, NX
    /// recovery). What comes between the two would be missing in the tables: then both are taken
    /// again.
    fn last_moment(
        &mut self,
        stopped: Option<Instant>,
        probes: &Probes,
        names: &CounterNames,
    ) -> (Result<(), RequestError>, Result<ByName, RequestError>) {
        let vm = self.vm();
        let read = || Ok(probes.counters(names, vm, None)?.by_name);
        let mut before: Result<ByName, RequestError> = read();
        let mut tries = 1;
        loop {
            let keyframe = self.keyframe(stopped);
            let after = read();
            let has_moved = match (&keyframe, &before, &after) {
                (Ok(()), Ok(before), Ok(after)) => before != after,
                // An error stays one.
                _ => false,
            };
            if !has_moved || tries == LAST_TRIES {
                return (keyframe, after);
            }
            (before, tries) = (after, tries + 1);
        }
    }

    /// Notes the counters at the end. A vCPU that was created after the start began at zero.
    fn count(
        &mut self,
        of_vm: ByName,
        probes: &Probes,
        names: &CounterNames,
    ) -> Result<(), RequestError> {
        let after = vcpu_counters(probes, names, self.vm())?;
        let before = after
            .iter()
            .map(|(vcpu, values)| match self.before.remove(vcpu) {
                Some(before) => before,
                None => zeros(values),
            });
        self.meta.counters_before.vcpus = before.collect();
        self.meta.vcpus = after.keys().map(|vcpu| vcpu.0).collect();
        self.meta.counters_after = Some(Counters {
            vm: of_vm,
            vcpus: after.into_values().collect(),
        });
        Ok(())
    }
}

/// Adds to the memslots of `meta` those that are new in `slots`, and ends those that are gone: they
/// were there at the time before. One that is the same may have been another in between.
fn note_memslots(meta: &mut VmMeta, slots: &[SlotAnswer], before_ns: u64, now_ns: u64) {
    match meta.memslots_changed.last_mut() {
        Some([_, until]) if *until == before_ns => *until = now_ns,
        // Nothing was known before the first look.
        _ if meta.memslots.is_empty() => {}
        _ => meta.memslots_changed.push([before_ns, now_ns]),
    }
    let noted = &mut meta.memslots;
    let mut new: Vec<Memslot> = slots
        .iter()
        .map(|slot| Memslot {
            slot: slot.id,
            gpa: slot.base.gpa(0).0,
            bytes: slot.pages << 12,
            hva: slot.hva.0,
            from_ns: now_ns,
            until_ns: None,
        })
        .collect();
    for slot in noted.iter_mut().filter(|slot| slot.until_ns.is_none()) {
        let here = |new: &Memslot| Memslot {
            from_ns: slot.from_ns,
            ..new.clone()
        };
        match new.iter().position(|new| here(new) == *slot) {
            Some(same) => drop(new.swap_remove(same)),
            None => slot.until_ns = Some(before_ns),
        }
    }
    new.sort_by_key(|slot| slot.gpa);
    noted.extend(new);
}

/// Counters of every vCPU that was seen so far.
pub fn vcpu_counters(
    probes: &Probes,
    names: &CounterNames,
    vm: VmId,
) -> Result<BTreeMap<VcpuId, ByName>, RequestError> {
    probes
        .seen_vcpus(vm)?
        .into_iter()
        .map(|vcpu| Ok((vcpu, probes.counters(names, vm, Some(vcpu))?.by_name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use events::{Gfn, Hva};

    use super::*;

    fn slot(id: u16, base: u64, hva: u64) -> SlotAnswer {
        SlotAnswer {
            base: Gfn(base),
            pages: 2,
            hva: Hva(hva),
            generation: 0,
            id,
            reserved: [0; 6],
        }
    }

    #[test]
    fn memslots_are_noted_when_they_appear_and_disappear() {
        let mut meta = VmMeta::default();
        let looks = [(0, 0x9000), (10, 0xa000), (20, 0xa000)];
        for (before, hva) in looks {
            let slots = [slot(0, 0, 0x1000), slot(1, 16, hva)];
            note_memslots(&mut meta, &slots, before, before + 10);
        }
        let spans: Vec<_> = meta
            .memslots
            .iter()
            .map(|slot| (slot.slot, slot.gpa, slot.hva, slot.from_ns, slot.until_ns))
            .collect();
        assert_eq!(
            spans,
            [
                (0, 0, 0x1000, 10, None),
                (1, 0x10000, 0x9000, 10, Some(10)),
                (1, 0x10000, 0xa000, 20, None),
            ]
        );
        // At the last look each was the same: something had moved, and moved back.
        assert_eq!(meta.memslots_changed, [[10, 30]]);
    }
}
