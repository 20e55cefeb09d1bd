//! The VMs that are followed now. None of them is stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use anyhow::Context as _;
use events::VmId;

use super::{frame::VmNow, sums::Sums};
use crate::{
    attach::{Target, vcpu_counters},
    probes::{CounterNames, Probes},
    terminal,
    vms::{self, Holder},
};

/// A VM.
#[derive(Debug)]
struct Vm {
    pid: u32,
    name: String,
    /// Keeps its structs in the kernel while the probes read them.
    _kept: OwnedFd,
    /// Faults that KVM had counted at the last look.
    taken: u64,
}

/// VMs of the target.
#[derive(Debug)]
pub struct Followed {
    probes: Arc<Probes>,
    names: CounterNames,
    target: Target,
    vms: BTreeMap<VmId, Vm>,
    next: u16,
    /// Processes that were reported as skipped.
    skipped: BTreeSet<u32>,
}

impl Followed {
    /// None yet.
    pub fn new(probes: Arc<Probes>, names: CounterNames, target: Target) -> Self {
        Self {
            probes,
            names,
            target,
            vms: BTreeMap::new(),
            next: 0,
            skipped: BTreeSet::new(),
        }
    }

    /// No VM is left.
    pub fn is_empty(&self) -> bool {
        self.vms.is_empty()
    }

    /// Records lost so far.
    pub fn lost(&self) -> anyhow::Result<u64> {
        Ok(self
            .probes
            .losses()?
            .iter()
            .map(|(_, loss)| loss.count)
            .sum())
    }

    /// Forgets VMs that have ended, and follows new ones.
    pub fn look(&mut self) -> anyhow::Result<()> {
        let holders = self.target.holders()?;
        let found = vms::among(&holders, &self.probes)?;
        let denied: BTreeSet<u32> = found
            .denied
            .iter()
            .filter_map(|(index, error)| {
                let holder = holders.get(*index)?;
                if self.skipped.insert(holder.number()) {
                    terminal::say(format_args!(
                        "skipped: process {} ({}): {error}",
                        holder.number(),
                        holder.name
                    ));
                }
                Some(holder.number())
            })
            .collect();
        let here: BTreeSet<VmId> = found.vms.iter().filter_map(|found| found.vm).collect();
        let gone = self
            .vms
            .extract_if(.., |vm, of| !here.contains(vm) && !denied.contains(&of.pid));
        for (vm, _) in gone {
            self.probes.forget(vm)?;
        }
        let mut added = false;
        for new in found.vms.into_iter().filter(|found| found.vm.is_none()) {
            let Some(holder) = holders.get(new.holder) else {
                continue;
            };
            let vm = VmId(self.next);
            // None of the numbers is used again: its records may still come.
            self.next = self
                .next
                .checked_add(1)
                .context("65,535 VMs were followed")?;
            self.probes.follow(new.kept.as_fd(), new.object, vm)?;
            self.vms.insert(vm, Vm::new(holder, new.kept));
            added = true;
        }
        if added {
            // Now the probes know whose vCPUs these are, and remember them.
            vms::among(&holders, &self.probes)?;
            for (vm, of) in self.vms.iter_mut().filter(|(vm, _)| !here.contains(*vm)) {
                self.probes.seat(*vm)?;
                of.taken = taken(&self.probes, &self.names, *vm)?;
            }
        }
        Ok(())
    }

    /// What each VM is and did.
    pub fn now(&mut self, sums: &Sums) -> anyhow::Result<Vec<VmNow>> {
        let mut vms = Vec::new();
        for (vm, of) in &mut self.vms {
            let counted = taken(&self.probes, &self.names, *vm)?;
            vms.push(VmNow {
                vm: vm.0,
                pid: of.pid,
                name: of.name.clone(),
                vcpus: self.probes.seen_vcpus(*vm)?.len(),
                shadow_pages: self.probes.counters(&self.names, *vm, None)?.shadow_pages,
                taken: counted.saturating_sub(of.taken),
                did: sums.of(*vm),
            });
            of.taken = counted;
        }
        Ok(vms)
    }
}

impl Vm {
    fn new(holder: &Holder, kept: OwnedFd) -> Self {
        Self {
            pid: holder.number(),
            name: holder.name.clone(),
            _kept: kept,
            taken: 0,
        }
    }
}

/// Faults that KVM has counted, of all vCPUs together.
fn taken(probes: &Probes, names: &CounterNames, vm: VmId) -> anyhow::Result<u64> {
    let vcpus = vcpu_counters(probes, names, vm)?;
    Ok(vcpus
        .values()
        .filter_map(|values| values.get("pf_taken"))
        .sum())
}
