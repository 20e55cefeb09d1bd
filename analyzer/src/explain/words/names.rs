//! Names of threads, faults, writers, ranges.

use events::VcpuId;
use trace::HostRow;

use crate::{
    explain::facts::{FaultRef, StoredBy, Writer},
    text::{
        plain,
        units::{count, plural},
    },
};

/// `vCPU 0`, or that it was none.
pub fn thread(vcpu: Option<VcpuId>) -> String {
    match vcpu {
        Some(vcpu) => format!("vCPU {}", vcpu.0),
        None => "a thread that is no vCPU".to_owned(),
    }
}

/// `, in phase touch`.
pub fn phase(phase: Option<&String>) -> String {
    phase.map_or_else(String::new, |name| format!(", in phase {}", plain(name)))
}

/// `fault 12 (shadow, gva 0x1000, vCPU 0)`.
pub fn fault(of: &FaultRef) -> String {
    let (class, vcpu) = (of.class.name(), of.vcpu.0);
    format!("fault {} ({class}, gva {}, vCPU {vcpu})", of.index, of.gva)
}

/// `fault 12 (…)`, or `dirty_log (seq 3, vCPU 0)`.
pub fn writer(of: &Writer) -> String {
    match &of.by {
        StoredBy::Fault(of) => fault(of),
        StoredBy::Cause(cause) => {
            let (seq, thread) = (count(of.seq.0), thread(of.vcpu));
            format!("{} (seq {seq}, {thread})", cause.name())
        }
    }
}

/// `16 frames from gfn 0x400, slot 1`.
pub fn frames(of: &HostRow) -> String {
    let slot = of.slot.map(|slot| format!(", slot {}", slot.0));
    let (frames, slot) = (plural(of.pages, "frame"), slot.unwrap_or_default());
    format!("{frames} from gfn {}{slot}", of.gfn)
}

/// `3rd`.
pub fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
