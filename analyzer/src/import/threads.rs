//! Which thread runs which vCPU of which VM, by what the text says.
//!
//! A process is a VM. A text without processes is taken for one VM. A vCPU's id is what an event
//! of its thread says; a thread of which none does gets the lowest id that is free.

use std::collections::{BTreeMap, BTreeSet};

use events::{VcpuId, VmId};
use trace::VmMeta;

use super::line::Line;

/// Threads kept apart; what others do is not imported.
const MAX_THREADS: usize = 1 << 16;

/// A thread that runs a vCPU.
#[derive(Clone, Debug, Default)]
struct Thread {
    process: Option<u32>,
    name: String,
    vcpu: Option<u16>,
    /// It did what only a vCPU's thread does.
    is_vcpu: bool,
}

/// Every thread of the text.
#[derive(Clone, Debug, Default)]
pub struct Threads {
    threads: BTreeMap<u32, Thread>,
    found: BTreeMap<u32, (VmId, VcpuId)>,
}

/// Events that only the thread of a vCPU has.
const OF_VCPU: [&str; 8] = [
    "kvm_entry",
    "kvm_exit",
    "kvm_page_fault",
    "kvm_mmu_pagetable_walk",
    "kvm_mmu_spte_requested",
    "fast_page_fault",
    "handle_mmio_page_fault",
    "kvm_inj_exception",
];

impl Threads {
    /// Takes what a line says.
    pub fn see(&mut self, line: &Line<'_>) {
        if !self.threads.contains_key(&line.thread) && self.threads.len() >= MAX_THREADS {
            return;
        }
        let of = self.threads.entry(line.thread).or_default();
        of.process = of.process.or(line.process);
        if of.name.is_empty() {
            line.name.clone_into(&mut of.name);
        }
        of.is_vcpu |= OF_VCPU.contains(&line.event);
        if matches!(
            line.event,
            "kvm_entry" | "kvm_exit" | "kvm_page_fault" | "fast_page_fault"
        ) {
            of.vcpu = of.vcpu.or_else(|| line.number("vcpu"));
        }
    }

    /// The VMs, once every line was seen.
    pub fn vms(&mut self) -> Vec<VmMeta> {
        let mut vms: Vec<VmMeta> = Vec::new();
        let mut numbers: BTreeMap<Option<u32>, u16> = BTreeMap::new();
        let vcpus = self.threads.iter().filter(|(_, of)| of.is_vcpu);
        let known: BTreeSet<(Option<u32>, u16)> = vcpus
            .clone()
            .filter_map(|(_, of)| Some((of.process, of.vcpu?)))
            .collect();
        let mut taken = known;
        for (thread, of) in vcpus {
            let Ok(next) = u16::try_from(vms.len()) else {
                break;
            };
            let vm = *numbers.entry(of.process).or_insert_with(|| {
                vms.push(VmMeta {
                    vm: next,
                    pid: of.process.unwrap_or_default(),
                    name: of.name.clone(),
                    ..VmMeta::default()
                });
                next
            });
            let free = (0..u16::MAX).find(|vcpu| !taken.contains(&(of.process, *vcpu)));
            let Some(vcpu) = of.vcpu.or(free) else {
                continue;
            };
            taken.insert((of.process, vcpu));
            self.found.insert(*thread, (VmId(vm), VcpuId(vcpu)));
            if let Some(meta) = vms.get_mut(usize::from(vm))
                && !meta.vcpus.contains(&vcpu)
            {
                meta.vcpus.push(vcpu);
                meta.vcpus.sort_unstable();
            }
        }
        vms
    }

    /// Whose thread it is.
    pub fn of(&self, thread: u32) -> Option<(VmId, VcpuId)> {
        self.found.get(&thread).copied()
    }
}
