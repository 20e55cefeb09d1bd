//! VMs that run now, and how many faults they take.

use std::{
    collections::BTreeSet,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use events::VmId;
use serde::Serialize;

use super::traced::vcpu_counters;
use crate::{
    failure::{Failure, chain},
    host::{self, Paging},
    probes::{CounterNames, Probes, Room},
    recording::{self, Kernel},
    terminal,
    vms::{self, Found, Holder},
};

/// Between the two looks at the counters.
const SAMPLE: Duration = Duration::from_secs(1);

/// A VM that runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Its process.
    pub pid: u32,
    /// That process's name.
    pub name: String,
    /// Its descriptor in that process.
    pub descriptor: i32,
    /// Number of its vCPUs.
    pub vcpus: usize,
    /// `shadow`, `PVM` (shadow too), `TDP` (no shadow tables), or `nested`: TDP, with shadow tables
    /// for a nested guest.
    pub mode: &'static str,
    /// Shadow pages in use.
    pub shadow_pages: u64,
    /// Page faults that KVM dealt with, a second.
    pub faults_per_second: f64,
}

/// Looks twice, a second apart.
pub fn list() -> Result<Vec<Listed>, Failure> {
    recording::check_root()?;
    let (types, resolved) = Kernel::types()?;
    let names = CounterNames::of(&types);
    let mut config = resolved.config;
    [config.vm_counters, config.vcpu_counters] = names.places();
    let (probes, _ring) =
        Probes::load(&config, Room::NONE, false, &BTreeSet::new()).map_err(recording::cannot)?;

    vms::take_room().context("while asking for more file descriptors")?;
    let holders = vms::all().context("while looking for VMs in /proc")?;
    let Found {
        vms: found,
        denied,
        copies,
    } = vms::among(&holders, &probes);
    for (index, owner) in copies {
        if let Some(holder) = holders.get(index) {
            terminal::say(format_args!(
                "process {} ({}) has copies of descriptors of a VM that process {owner} runs",
                holder.number(),
                holder.name
            ));
        }
    }
    for (_, error) in denied {
        terminal::say(format_args!("not every VM is listed: {}", chain(&error)));
    }
    for (number, vm) in (0..).zip(&found) {
        probes.follow(vm.kept.as_fd(), vm.object, VmId(number))?;
    }
    // Now each vCPU is known as its VM's.
    vms::among(&holders, &probes);
    let count = || -> anyhow::Result<Vec<u64>> {
        (0..)
            .zip(&found)
            .map(|(number, _)| faults(&probes, &names, VmId(number)))
            .collect()
    };
    let (before, begin) = (count()?, Instant::now());
    if !found.is_empty() {
        thread::sleep(SAMPLE);
    }
    let (after, seconds) = (count()?, begin.elapsed().as_secs_f64());
    let mut listed = Vec::new();
    for (number, (vm, (before, after))) in (0..).zip(found.iter().zip(before.iter().zip(&after))) {
        let Some(Holder { name, .. }) = holders.get(vm.holder) else {
            continue;
        };
        listed.push(Listed {
            pid: holders[vm.holder].number(),
            name: name.clone(),
            descriptor: vm.descriptor,
            vcpus: vm.vcpus,
            mode: mode(vm.nested),
            shadow_pages: probes.counters(&names, VmId(number), None)?.shadow_pages,
            faults_per_second: after.saturating_sub(*before) as f64 / seconds,
        });
    }
    Ok(listed)
}

/// `pf_taken` of all vCPUs together.
fn faults(probes: &Probes, names: &CounterNames, vm: VmId) -> anyhow::Result<u64> {
    let vcpus = vcpu_counters(probes, names, vm)?;
    Ok(vcpus
        .values()
        .filter_map(|values| values.get("pf_taken"))
        .sum())
}

/// How a VM is paged: the vendor module decides for all of them.
fn mode(nested: bool) -> &'static str {
    match (host::paging(), host::vendor_module()) {
        (Paging::Shadow, Some("kvm_pvm")) => "PVM",
        (Paging::Shadow, _) => "shadow",
        (Paging::TwoDimensional, _) if nested => "nested",
        (Paging::TwoDimensional, _) => "TDP",
        (Paging::None, _) => "unknown",
    }
}
