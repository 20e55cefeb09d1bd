//! Which recordings must be exact, on the host and in the lab alike: no drift, nothing impossible,
//! nothing seen late, nothing lost, KVM's counters equal, the audit clean.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;
use trace::Trace;

use super::{analyze, analyzer, run};

/// Each workload that changes its tables, at three sizes.
pub const ITEMS: &[&str] = &[
    "remap:pages=16",
    "remap",
    "remap:pages=1024,rounds=4,batch=16",
    "switch:spaces=2",
    "switch:spaces=12,shared=true",
    "switch:spaces=48,pages=64",
    "fork:pages=16",
    "fork",
    "fork:pages=1024,writes=1000",
    "unsync:tables=1,flush=cr3",
    "unsync:tables=16,flush=invlpg",
    "unsync:tables=64,rounds=8",
    "unsync:tables=1024,pages=4,rounds=3,flush=mixed",
    "flood:rounds=5",
    "flood:via=user",
    "flood:rounds=200",
    "protect:pages=8",
    "protect",
    "protect:pages=1024",
    "huge:regions=1",
    "huge:backing=huge",
    "huge:regions=32",
    "huge:prevent=entries",
    "huge:prevent=dirty",
    "access",
    "access:rounds=20,order=present-first",
    "alias:aliases=10",
    "alias",
    "alias:aliases=4096",
    "recycle:tables=100",
    "recycle",
    "recycle:tables=1000,mmu_pages=128",
    "reclaim:pages=64",
    "reclaim",
    "reclaim:pages=4096",
    "dirty:pages=64,clear=true",
    "dirty",
    "dirty:pages=4096",
    "memslot:pages=32",
    "memslot",
    "memslot:pages=2048",
    "micro:op=protection-fault",
    "micro:op=map-unmap,ops=200,batches=5",
    "micro:op=fork,batches=20",
    "smp",
    "smp:vcpus=3,roots=own",
    "smp:vcpus=4,roots=mixed,steps=1500",
];

/// The soak: all of it, from a seed.
pub fn soak(steps: u32) -> Vec<String> {
    let seeds = 1..=20;
    seeds
        .map(|seed| format!("mixed:seed={seed},steps={steps}"))
        .collect()
}

/// What the audits of several recordings checked.
#[derive(Default)]
pub struct Audited {
    checked: BTreeMap<String, u64>,
    /// KVM's module.
    hypervisor: String,
}

impl Audited {
    /// Adds the audit of a VM, which must be clean.
    fn add(&mut self, audit: &Value, name: &str) {
        for check in audit["checks"].as_array().expect("checks") {
            assert_eq!(
                (&check["violated"], &check["undecided"]),
                (&0.into(), &0.into()),
                "{name}: {check}"
            );
            let of = check["check"].as_str().expect("a name").to_owned();
            *self.checked.entry(of).or_default() += check["checked"].as_u64().expect("a number");
        }
    }

    /// Each of the checks ran in one of the recordings at least.
    pub fn every_check_ran(&self) {
        assert_eq!(self.checked.len(), 8, "{:?}", self.checked);
        let never = self.checked.iter().filter(|(_, count)| **count == 0);
        let never: Vec<_> = never.map(|(check, _)| check.as_str()).collect();
        let impossible: &[&str] = match self.hypervisor.as_str() {
            // It makes no markers for MMIO, and the record of an act comes after it.
            "kvm_pvm" => &["mmio_over_present", "zap_outside_slot"],
            _ => &[],
        };
        assert_eq!(never, impossible, "{:?}", self.checked);
    }
}

/// Every trace in the folder.
pub fn all_exact(folder: &Path, count: usize) -> Audited {
    let traces: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("readable")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(traces.len(), count, "{traces:?}");
    let mut keyframes = 0;
    let mut audited = Audited::default();
    for trace in traces {
        let name = trace.display();
        let meta = Trace::open(&trace).expect("a trace").meta().clone();
        audited.hypervisor = meta.host.hypervisor;
        let verified = run(analyzer().arg("verify").arg(&trace));
        assert_eq!(
            verified.status.code(),
            Some(0),
            "{name}: {}{}",
            String::from_utf8_lossy(&verified.stdout),
            String::from_utf8_lossy(&run(analyzer().arg("audit").arg(&trace)).stdout)
        );
        let vms = analyze("verify", &trace)["vms"].clone();
        for vm in vms.as_array().expect("VMs") {
            assert_eq!(vm["drift"]["late"]["entries"], 0, "{name}: {vm}");
            keyframes += vm["drift"]["keyframes"].as_u64().expect("a number");
            audited.add(&vm["audit"], &name.to_string());
        }
    }
    // Two of each run are at its start and end; the first sets the state or finds nothing.
    assert!(keyframes > 2 * count as u64, "{keyframes} of {count} runs");
    audited
}
