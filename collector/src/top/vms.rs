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
    failure::chain,
    probes::{CounterNames, Probes, RequestError},
    terminal,
    vms::{self, Found, FoundVm, Holder},
};

/// A VM.
#[derive(Debug)]
struct Vm {
    pid: u32,
    name: String,
    /// Keeps its structs in the kernel while the probes read them.
    _kept: OwnedFd,
    /// Faults that KVM had counted at the last look; `None`: not known.
    taken: Option<u64>,
}

/// What is read of a VM at a look.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    vcpus: usize,
    shadow_pages: u64,
    /// Faults that KVM has counted, of all vCPUs together.
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
    /// VMs that the last look could not follow: the next one tries again.
    refused: Vec<VmNow>,
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
            refused: Vec::new(),
            skipped: BTreeSet::new(),
        }
    }

    /// No VM is left.
    pub fn is_empty(&self) -> bool {
        self.vms.is_empty() && self.refused.is_empty()
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

    /// Forgets VMs that have ended, and follows new ones. What goes wrong with one is said on its
    /// line, and the others go on.
    pub fn look(&mut self) -> anyhow::Result<()> {
        let holders = self.target.holders()?;
        let found = vms::among(&holders, &self.probes);
        let denied = self.denied(&holders, &found);
        let here: BTreeSet<VmId> = found.vms.iter().filter_map(|found| found.vm).collect();
        let gone = self
            .vms
            .extract_if(.., |vm, of| !here.contains(vm) && !denied.contains(&of.pid));
        for (vm, of) in gone {
            // It has ended: no line is left for it.
            if let Err(error) = self.probes.forget(vm) {
                let error = anyhow::Error::from(error);
                terminal::say(format_args!("VM {} (process {}): {error:#}", vm.0, of.pid));
            }
        }
        self.refused.clear();
        let mut added = Vec::new();
        for new in found.vms.into_iter().filter(|found| found.vm.is_none()) {
            let Some(holder) = holders.get(new.holder) else {
                continue;
            };
            match self.follow(&new) {
                Ok(vm) => {
                    self.vms.insert(vm, Vm::new(holder, new.kept));
                    added.push(vm);
                }
                Err(error) => self.refused.push(VmNow {
                    failed: Some(format!("{error:#}")),
                    ..VmNow::of(None, holder.number(), &holder.name)
                }),
            }
        }
        if !added.is_empty() {
            // Now the probes know whose vCPUs these are, and remember them.
            vms::among(&holders, &self.probes);
        }
        for vm in added {
            // What cannot be read now cannot be at the look either, which says so.
            let seated = self.probes.seat(vm);
            let read = seated.and_then(|()| read(&self.probes, &self.names, vm));
            if let (Some(of), Ok(read)) = (self.vms.get_mut(&vm), read) {
                of.taken = Some(read.taken);
            }
        }
        Ok(())
    }

    /// Processes that may not be read; each is reported once.
    fn denied(&mut self, holders: &[Holder], found: &Found) -> BTreeSet<u32> {
        let denied = found.denied.iter().filter_map(|(index, error)| {
            let holder = holders.get(*index)?;
            if self.skipped.insert(holder.number()) {
                let why = chain(error);
                terminal::say(format_args!("not every VM is followed: {why}"));
            }
            Some(holder.number())
        });
        denied.collect()
    }

    fn follow(&mut self, new: &FoundVm) -> anyhow::Result<VmId> {
        let vm = VmId(self.next);
        let next = self.next.checked_add(1);
        let next = next.context("65,535 VMs were followed: start `top` again")?;
        self.probes.follow(new.kept.as_fd(), new.object, vm)?;
        // None of the numbers is used again: its records may still come.
        self.next = next;
        Ok(vm)
    }

    /// What each VM is and did.
    pub fn now(&mut self, sums: &Sums) -> Vec<VmNow> {
        let (probes, names) = (&self.probes, &self.names);
        let mut vms = now(&mut self.vms, sums, |vm| read(probes, names, vm));
        vms.extend(self.refused.iter().cloned());
        vms
    }
}

/// What each VM is and did, or why that cannot be read.
fn now(
    vms: &mut BTreeMap<VmId, Vm>,
    sums: &Sums,
    read: impl Fn(VmId) -> Result<Read, RequestError>,
) -> Vec<VmNow> {
    let vms = vms.iter_mut().map(|(vm, of)| {
        let (read, failed) = match read(*vm) {
            Ok(read) => (Some(read), None),
            Err(error) => (None, Some(format!("{:#}", anyhow::Error::from(error)))),
        };
        let before = std::mem::replace(&mut of.taken, read.map(|read| read.taken));
        let Read {
            vcpus,
            shadow_pages,
            taken,
        } = read.unwrap_or_default();
        VmNow {
            vcpus,
            shadow_pages,
            taken: before.map_or(0, |before| taken.saturating_sub(before)),
            did: sums.of(*vm),
            failed,
            ..VmNow::of(Some(vm.0), of.pid, &of.name)
        }
    });
    vms.collect()
}

impl Vm {
    fn new(holder: &Holder, kept: OwnedFd) -> Self {
        Self {
            pid: holder.number(),
            name: holder.name.clone(),
            _kept: kept,
            taken: None,
        }
    }
}

fn read(probes: &Probes, names: &CounterNames, vm: VmId) -> Result<Read, RequestError> {
    let vcpus = vcpu_counters(probes, names, vm)?;
    let taken = vcpus.values().filter_map(|values| values.get("pf_taken"));
    Ok(Read {
        vcpus: vcpus.len(),
        shadow_pages: probes.counters(names, vm, None)?.shadow_pages,
        taken: taken.sum(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn vm(pid: u32) -> Vm {
        Vm {
            pid,
            name: "vmm".to_owned(),
            _kept: File::open("/dev/null").expect("it is there").into(),
            taken: Some(5),
        }
    }

    #[test]
    fn a_vm_that_cannot_be_read_does_not_end_the_others() {
        let mut vms = BTreeMap::from([(VmId(0), vm(10)), (VmId(1), vm(11)), (VmId(2), vm(12))]);
        let look = |vms: &mut BTreeMap<VmId, Vm>, taken: u64, fails: bool| {
            now(vms, &Sums::default(), |vm| match vm {
                VmId(1) if fails => Err(RequestError::Empty("counters")),
                _ => Ok(Read {
                    vcpus: 2,
                    shadow_pages: 7,
                    taken,
                }),
            })
        };
        let seen = look(&mut vms, 9, true);
        let taken: Vec<_> = seen.iter().map(|vm| (vm.pid, vm.taken)).collect();
        assert_eq!(taken, [(10, 4), (11, 0), (12, 4)]);
        let failed: Vec<_> = seen.iter().map(|vm| vm.failed.is_some()).collect();
        assert_eq!(failed, [false, true, false]);
        // What it took meanwhile is not of one look.
        let seen = look(&mut vms, 20, false);
        let taken: Vec<_> = seen
            .iter()
            .map(|vm| (vm.taken, vm.failed.clone()))
            .collect();
        assert_eq!(taken, [(11, None), (0, None), (11, None)]);
    }
}
