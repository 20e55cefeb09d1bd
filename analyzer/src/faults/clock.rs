//! What the guest paid by its own clock, and how much of that KVM saw.

use serde::Serialize;
use trace::Touches;

/// The accesses of a guest to its range, timed by the guest itself.
///
/// `total_ns` is `seen_ns` and `rest_ns` together: what KVM's records have of the faults in the
/// range, and the world switches, the guest's own fault handler, and the accesses that do not
/// fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestClock {
    /// Accesses.
    pub touches: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The longest, ns.
    pub max_ns: u64,
    /// Faults in the range.
    pub faults: u64,
    /// Their time, ns.
    pub seen_ns: u64,
    /// What the guest paid and KVM did not see, ns; absent where KVM saw more: then not every
    /// fault in the range was within a timed access.
    pub rest_ns: Option<u64>,
    /// How many took at least `2^n` and fewer than `2^(n+1)` cycles of its counter.
    pub log2_cycles: Vec<u64>,
    /// Frequency of the counter, kHz.
    pub tsc_khz: u32,
}

impl GuestClock {
    /// None where the guest timed nothing, or its counter's frequency is not known.
    pub fn of(touches: &Touches, faults: u64, seen_ns: u64) -> Option<Self> {
        let tsc_khz = touches.tsc_khz.filter(|khz| *khz > 0)?;
        let ns = |cycles: u64| {
            let ns = u128::from(cycles) * 1_000_000 / u128::from(tsc_khz);
            u64::try_from(ns).unwrap_or(u64::MAX)
        };
        let vcpus = &touches.vcpus;
        let sum =
            |of: fn(&trace::VcpuTouches) -> u64| vcpus.iter().map(of).fold(0, u64::saturating_add);
        let count = sum(|vcpu| vcpu.count);
        if count == 0 {
            return None;
        }
        let longest = vcpus.iter().map(|vcpu| vcpu.max_cycles).max();
        let mut log2_cycles = Vec::new();
        for vcpu in vcpus {
            log2_cycles.resize(vcpu.log2_cycles.len().max(log2_cycles.len()), 0_u64);
            for (all, one) in log2_cycles.iter_mut().zip(&vcpu.log2_cycles) {
                *all = all.saturating_add(*one);
            }
        }
        let total_ns = ns(sum(|vcpu| vcpu.cycles));
        Some(Self {
            touches: count,
            total_ns,
            max_ns: longest.map_or(0, ns),
            faults,
            seen_ns,
            rest_ns: total_ns.checked_sub(seen_ns),
            log2_cycles,
            tsc_khz,
        })
    }
}

#[cfg(test)]
mod tests {
    use trace::VcpuTouches;

    use super::*;

    fn touches(tsc_khz: Option<u32>) -> Touches {
        let vcpu = |count, cycles, max_cycles, log2_cycles: &[u64]| VcpuTouches {
            count,
            cycles,
            max_cycles,
            log2_cycles: log2_cycles.to_vec(),
        };
        Touches {
            tsc_khz,
            vcpus: vec![
                vcpu(3, 4000, 3000, &[1, 2]),
                vcpu(1, 2000, 2000, &[0, 0, 1]),
            ],
        }
    }

    #[test]
    fn what_the_guest_paid_is_what_kvm_saw_and_the_rest() {
        let clock = GuestClock::of(&touches(Some(2_000_000)), 2, 1200).expect("a clock");
        assert_eq!(
            (clock.touches, clock.total_ns, clock.max_ns),
            (4, 3000, 1500)
        );
        assert_eq!(clock.rest_ns, Some(1800));
        assert_eq!(clock.log2_cycles, [1, 2, 1]);
        let more = GuestClock::of(&touches(Some(2_000_000)), 2, 3001).expect("a clock");
        assert_eq!(more.rest_ns, None);
    }

    #[test]
    fn without_a_frequency_or_an_access_there_is_no_clock() {
        assert_eq!(GuestClock::of(&touches(None), 1, 1), None);
        assert_eq!(GuestClock::of(&touches(Some(0)), 1, 1), None);
        let none = Touches {
            tsc_khz: Some(1),
            ..Touches::default()
        };
        assert_eq!(GuestClock::of(&none, 0, 0), None);
    }
}
