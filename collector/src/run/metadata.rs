//! `meta.json` of a run.

use std::{env, process, time::SystemTime};

use rustix::time::{ClockId, clock_gettime};
use trace::{
    Counters, End, Memslot, Meta, ProgramCost, SCHEMA_VERSION, Tool, TraceWriter, VmMeta,
    WorkloadMeta,
};

use super::{Order, VCPU, VM};
use crate::{
    host,
    probes::{Probes, Resolved},
    vmm::{GuestResult, KvmStats, Vmm, VmmError},
};

/// Before the guest starts.
pub fn start(
    order: &Order,
    vmm: &Vmm,
    stats: &KvmStats,
    probes: &Probes,
    resolved: &Resolved,
) -> Meta {
    let started_ns = now_ns();
    let memslots = vmm
        .memslots()
        .iter()
        .map(|slot| Memslot {
            slot: u16::try_from(slot.id).unwrap_or(u16::MAX),
            gpa: slot.base.0,
            bytes: slot.bytes,
            hva: slot.hva,
            from_ns: started_ns,
        })
        .collect();
    Meta {
        schema: SCHEMA_VERSION,
        tool: Tool {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        command: command(),
        started_unix_s: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs()),
        started_ns,
        clock: "CLOCK_MONOTONIC".to_owned(),
        complete: false,
        host: host::facts(),
        probes: probes.states().to_vec(),
        offsets: resolved.offsets.clone(),
        role: resolved.role.clone(),
        vms: vec![VmMeta {
            vm: VM.0,
            pid: process::id(),
            vcpus: vec![VCPU.0],
            memslots,
            counters_before: counters(stats),
            counters_after: None,
        }],
        workload: Some(WorkloadMeta {
            name: order.plan.workload.name.to_owned(),
            params: order.plan.params().into_iter().collect(),
            range_gva: order.plan.work.start.0,
            range_pages: order.plan.work.pages,
            expected_guest_faults: order.plan.expected.guest_faults,
            expected_shadow_faults: order.plan.expected.shadow_faults,
            expected_retried_faults: order.plan.expected.retried_faults,
        }),
        ring_bytes: u64::from(order.ring_bytes),
        end: None,
    }
}

/// After it ended.
pub fn end(
    ran: &Result<GuestResult, VmmError>,
    records: events::Seq,
    trace: &TraceWriter,
    programs: Vec<ProgramCost>,
) -> End {
    let reason = match ran {
        Ok(_) => "done".to_owned(),
        Err(VmmError::Cancelled) => "interrupted".to_owned(),
        Err(VmmError::Timeout { .. }) => "timeout".to_owned(),
        Err(error) => error.to_string(),
    };
    End {
        time_ns: now_ns(),
        reason,
        records: records.0,
        segments: trace.segments(),
        rows: trace.rows(),
        programs,
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

/// The command line, the program by its name alone.
fn command() -> Vec<String> {
    let mut words: Vec<String> = env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(program) = words.first_mut() {
        *program = env!("CARGO_PKG_NAME").to_owned();
    }
    words
}

/// Now on the trace's clock.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither part of the monotonic clock is negative.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
