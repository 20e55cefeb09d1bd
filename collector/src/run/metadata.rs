//! What `meta.json` says of the VM and its workload.

use std::process;

use trace::{Counters, Memslot, Meta, Micro, Touches, VcpuTouches, VmMeta, WorkloadMeta};
use workloads::{Plan, Value};

use super::{Options, VM};
use crate::{
    recording::{self, Kernel},
    vmm::{GuestResult, KvmStats, Vmm, VmmError},
};

/// Before the guest starts.
pub fn start(options: &Options, vmm: &Vmm, stats: &KvmStats, kernel: &Kernel) -> Meta {
    let mut meta = recording::start(kernel, options.ring_bytes, true);
    meta.vms = vec![VmMeta {
        vm: VM.0,
        pid: process::id(),
        name: env!("CARGO_PKG_NAME").to_owned(),
        vcpus: (0..).take(vmm.vcpu_fds().len()).collect(),
        memslots: memslots(vmm),
        from_ns: meta.started_ns,
        counters_before: counters(stats),
        ..VmMeta::default()
    }];
    let expected = options.plan.expected;
    meta.workload = Some(WorkloadMeta {
        name: options.plan.workload.name.to_owned(),
        params: options.plan.params().into_iter().collect(),
        range_gva: options.plan.work.start.0,
        range_pages: options.plan.work.pages,
        expected_guest_faults: expected.map(|counts| counts.guest_faults),
        expected_shadow_faults: expected.map(|counts| counts.shadow_faults),
        expected_retried_faults: expected.and_then(|counts| counts.retried_faults),
        expected_shadow_pages: expected.map(|counts| counts.shadow_pages),
        expected_entries: expected.map(|counts| counts.entries),
        touches: None,
        micro: None,
    });
    meta
}

/// What the guest's clock says, once it has ended.
pub fn touches(vmm: &Vmm) -> Result<Touches, VmmError> {
    let vcpu = |touches: &abi::Touches| {
        let mut bins = touches.log2_cycles.iter();
        let used = bins
            .rposition(|count| *count > 0)
            .map_or(0, |last| last + 1);
        VcpuTouches {
            count: touches.count,
            cycles: touches.cycles,
            max_cycles: touches.max_cycles,
            log2_cycles: touches.log2_cycles.iter().copied().take(used).collect(),
        }
    };
    Ok(Touches {
        tsc_khz: vmm.tsc_khz(),
        vcpus: vmm.touches()?.iter().map(vcpu).collect(),
    })
}

/// What the guest's clock says of the operation of `micro`, once it has ended; `None` for other
/// workloads.
pub fn micro(plan: &Plan, vmm: &Vmm) -> Result<Option<Micro>, VmmError> {
    let value = |name: &str| plan.values.iter().find(|(one, _)| *one == name);
    let (Some((_, Value::Choice(op))), "micro") = (value("op"), plan.workload.name) else {
        return Ok(None);
    };
    let batch = match value("ops") {
        Some((_, Value::Count(ops))) if *op != abi::MicroOp::Fork.name() => *ops,
        _ => 1,
    };
    let batches = vmm.batches()?;
    let cycles = batches.timed();
    Ok(Some(Micro {
        op: (*op).to_owned(),
        count: batch.saturating_mul(cycles.len() as u64),
        cycles: cycles.iter().copied().fold(0, u64::saturating_add),
        batch,
        empty_cycles: batches.empty_cycles,
        batch_cycles: cycles.to_vec(),
        tsc_khz: vmm.tsc_khz(),
    }))
}

/// Every memslot that there was so far.
pub fn memslots(vmm: &Vmm) -> Vec<Memslot> {
    let memslot = |slot: &crate::vmm::Memslot| Memslot {
        slot: slot.id,
        gpa: slot.gpa.0,
        bytes: slot.bytes,
        hva: slot.hva,
        from_ns: slot.from_ns,
        until_ns: slot.until_ns,
    };
    vmm.memslots().iter().map(memslot).collect()
}

/// Why it ended; `full`: the trace had its largest size.
pub fn reason(ran: &Result<GuestResult, VmmError>, full: bool) -> String {
    match ran {
        Ok(_) => "done".to_owned(),
        Err(VmmError::Cancelled) if full => recording::FULL.to_owned(),
        Err(VmmError::Cancelled) => "interrupted".to_owned(),
        Err(VmmError::Timeout { .. }) => "timeout".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// KVM's counters by name.
pub fn counters(stats: &KvmStats) -> Counters {
    Counters {
        vm: stats.vm.iter().cloned().collect(),
        vcpus: stats
            .vcpus
            .iter()
            .map(|vcpu| vcpu.iter().cloned().collect())
            .collect(),
    }
}
