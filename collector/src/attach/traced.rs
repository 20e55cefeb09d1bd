//! One traced VM of another process.

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc};

use anyhow::Context as _;
use events::{VcpuId, VmId};
use trace::{Counters, VmMeta};

use crate::{
    keyframe::Keyframes,
    probes::{CounterNames, Probes, RequestError},
    recording,
    vms::Holder,
};

/// A VM from its first keyframe on.
#[derive(Debug)]
pub struct TracedVm {
    /// Its process.
    pub process: Arc<Holder>,
    /// What the trace says of it.
    pub meta: VmMeta,
    /// Keeps its structs in the kernel while the probes and keyframes read them.
    _kept: OwnedFd,
    keyframes: Keyframes,
    before: BTreeMap<VcpuId, BTreeMap<String, u64>>,
}

impl TracedVm {
    /// Of a VM that is followed and stands still: its counters and tables as they are now.
    pub fn begin(
        vm: VmId,
        process: Arc<Holder>,
        kept: OwnedFd,
        probes: &Arc<Probes>,
        names: &CounterNames,
    ) -> Result<Self, RequestError> {
        let before = vcpu_counters(probes, names, vm)?;
        let meta = VmMeta {
            vm: vm.0,
            pid: process.number(),
            name: process.name.clone(),
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
            _kept: kept,
            keyframes: Keyframes::new(Arc::clone(probes), vm),
            before,
        };
        traced.keyframe()?;
        Ok(traced)
    }

    /// Its number.
    pub fn vm(&self) -> VmId {
        VmId(self.meta.vm)
    }

    /// Copies its tables; it must stand still.
    pub fn keyframe(&mut self) -> Result<(), RequestError> {
        self.keyframes.take().map(|_| ())
    }

    /// The last keyframe and counters of a VM that stands still, or is no more; it is not traced
    /// afterwards. `ended` says why, if it ended by itself.
    pub fn end(
        &mut self,
        ended: Option<&str>,
        probes: &Probes,
        names: &CounterNames,
    ) -> anyhow::Result<()> {
        let vm = self.vm();
        let keyframe = self
            .keyframe()
            .context("while copying the shadow tables at the end");
        let counted = self.count(probes, names);
        let forgotten = probes.forget(vm);
        if let Some(why) = ended {
            self.meta.until_ns = Some(recording::now_ns());
            self.meta.ended = Some(why.to_owned());
        }
        let result = counted
            .and(forgotten)
            .with_context(|| format!("while taking leave of VM {}", vm.0));
        keyframe.and(result)
    }

    /// Sets the counters at the end beside those of the start. A vCPU that was made since then
    /// started from zero.
    fn count(&mut self, probes: &Probes, names: &CounterNames) -> Result<(), RequestError> {
        let after = vcpu_counters(probes, names, self.vm())?;
        let zeros =
            |values: &BTreeMap<String, u64>| values.keys().map(|name| (name.clone(), 0)).collect();
        let before = after
            .iter()
            .map(|(vcpu, values)| match self.before.remove(vcpu) {
                Some(before) => before,
                None => zeros(values),
            });
        self.meta.counters_before.vcpus = before.collect();
        self.meta.vcpus = after.keys().map(|vcpu| vcpu.0).collect();
        self.meta.counters_after = Some(Counters {
            vm: probes.counters(names, self.vm(), None)?.by_name,
            vcpus: after.into_values().collect(),
        });
        Ok(())
    }
}

/// Counters of every vCPU that was seen so far.
pub fn vcpu_counters(
    probes: &Probes,
    names: &CounterNames,
    vm: VmId,
) -> Result<BTreeMap<VcpuId, BTreeMap<String, u64>>, RequestError> {
    probes
        .seen_vcpus(vm)?
        .into_iter()
        .map(|vcpu| Ok((vcpu, probes.counters(names, vm, Some(vcpu))?.by_name)))
        .collect()
}
