//! Which VMs a trace has, for those who must choose one.

use std::collections::{BTreeMap, BTreeSet};

use trace::{FaultRow, Row as _, Trace, TraceError};

use crate::text::{
    plain,
    units::{count, plural},
};

/// A VM and what distinguishes it from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownVm {
    /// Its number.
    pub vm: u16,
    /// Name of its VMM's process; empty where unknown.
    pub name: String,
    /// That process; unknown for a VM that only records name.
    pub pid: Option<u32>,
    /// Ids of its vCPUs.
    pub vcpus: BTreeSet<u16>,
    /// Faults.
    pub faults: u64,
}

/// VMs listed in a message.
const LISTED: usize = 16;

/// The VMs of the metadata, and those that only faults name. Reads two columns of all faults.
pub fn known_vms(trace: &Trace) -> Result<Vec<KnownVm>, TraceError> {
    let mut known: BTreeMap<u16, KnownVm> = BTreeMap::new();
    for meta in &trace.meta().vms {
        known.insert(
            meta.vm,
            KnownVm {
                vm: meta.vm,
                name: meta.name.clone(),
                pid: Some(meta.pid),
                vcpus: meta.vcpus.iter().copied().collect(),
                faults: 0,
            },
        );
    }
    let frame = trace.frame::<FaultRow>(Some(&["vm", "vcpu"]))?;
    let column = |name: &str| {
        let column = frame.column(name).and_then(|column| column.u16());
        column.map_err(|error| TraceError::Column {
            path: trace.path().join(FaultRow::KIND),
            column: name.to_owned(),
            why: error.to_string(),
        })
    };
    for (vm, vcpu) in column("vm")?.iter().zip(column("vcpu")?.iter()) {
        let Some(vm) = vm else { continue };
        let of = known.entry(vm).or_default();
        of.vm = vm;
        of.faults += 1;
        of.vcpus.extend(vcpu);
    }
    Ok(known.into_values().collect())
}

/// The VMs in words.
pub fn list(known: &[KnownVm]) -> String {
    match known {
        [] => "none".to_owned(),
        [one] => format!("only VM {}", one.vm),
        several => {
            let mut words: Vec<_> = several.iter().take(LISTED).map(describe).collect();
            if several.len() > LISTED {
                words.push(format!("{} more", count((several.len() - LISTED) as u64)));
            }
            format!("{} VMs: {}", count(several.len() as u64), words.join("; "))
        }
    }
}

fn describe(vm: &KnownVm) -> String {
    let faults = plural(vm.faults, "fault");
    let about = about(&vm.name, vm.pid, &vm.vcpus);
    format!("{} ({about}, {faults})", vm.vm)
}

/// What distinguishes a VM from others: `qemu-system-x86, pid 4711, vCPUs 0 to 3`.
pub fn about(name: &str, pid: Option<u32>, vcpus: &BTreeSet<u16>) -> String {
    let name = (!name.is_empty()).then(|| plain(name));
    let pid = pid.map(|pid| format!("pid {pid}"));
    let words = [name, pid, Some(self::vcpus(vcpus))];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `vCPU 0`, `vCPUs 0 to 3`, `vCPUs 0, 2`.
fn vcpus(ids: &BTreeSet<u16>) -> String {
    let words: Vec<_> = ids.iter().map(u16::to_string).collect();
    match (words.as_slice(), ids.first(), ids.last()) {
        ([], ..) => "no vCPU".to_owned(),
        ([one], ..) => format!("vCPU {one}"),
        (_, Some(first), Some(last))
            if words.len() > 2 && usize::from(last - first) + 1 == words.len() =>
        {
            format!("vCPUs {first} to {last}")
        }
        _ => format!("vCPUs {}", words.join(", ")),
    }
}
