//! What the guest paid by its own clock, and how much of that KVM saw.

use serde::Serialize;
use trace::Touches;

use super::BetweenFaults;

/// The accesses of a guest to its range, timed by the guest itself.
///
/// `total_ns` is `seen_ns`, `switches_ns` and `rest_ns` together: what KVM's records have of the
/// faults in the range; the world switches around them; the guest's own fault handler, and the
/// accesses that do not fault.
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
    /// World switches, ns: the 5th percentile of the time between faults for each fault in the
    /// range. Absent where that is not known, or more than KVM did not see: then they are in the
    /// rest.
    pub switches_ns: Option<u64>,
    /// What is left, ns; absent where KVM saw more than the guest paid: then not every fault in
    /// the range was within a timed access.
    pub rest_ns: Option<u64>,
    /// How many took at least `2^n` and fewer than `2^(n+1)` cycles of its counter.
    pub log2_cycles: Vec<u64>,
    /// Frequency of the counter, kHz.
    pub tsc_khz: u32,
}

impl GuestClock {
    /// None where the guest timed nothing, or its counter's frequency is not known.
    pub fn of(
        touches: &Touches,
        faults: u64,
        seen_ns: u64,
        between: Option<&BetweenFaults>,
    ) -> Option<Self> {
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
        let unseen_ns = total_ns.checked_sub(seen_ns);
        let shortest = between.and_then(|between| between.p5_ns);
        let switches_ns = unseen_ns.zip(shortest).and_then(|(unseen, shortest)| {
            let all = shortest.saturating_mul(faults);
            (all <= unseen).then_some(all)
        });
        Some(Self {
            touches: count,
            total_ns,
            max_ns: longest.map_or(0, ns),
            faults,
            seen_ns,
            switches_ns,
            rest_ns: unseen_ns.map(|unseen| unseen.saturating_sub(switches_ns.unwrap_or(0))),
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
        let of = |seen_ns, between: Option<&BetweenFaults>| {
            GuestClock::of(&touches(Some(2_000_000)), 2, seen_ns, between).expect("a clock")
        };
        let clock = of(1200, None);
        assert_eq!(
            (clock.touches, clock.total_ns, clock.max_ns),
            (4, 3000, 1500)
        );
        assert_eq!((clock.switches_ns, clock.rest_ns), (None, Some(1800)));
        assert_eq!(clock.log2_cycles, [1, 2, 1]);
        let between = |p5_ns| BetweenFaults {
            count: 20,
            p5_ns: Some(p5_ns),
            p50_ns: p5_ns,
            from_entry_to_exit: false,
        };
        for (seen, p5_ns, switches, rest) in [
            (1200, 300, Some(600), Some(1200)),
            (1200, 900, Some(1800), Some(0)),
            (1200, 901, None, Some(1800)),
            (3001, 300, None, None),
        ] {
            let clock = of(seen, Some(&between(p5_ns)));
            let found = (clock.switches_ns, clock.rest_ns);
            assert_eq!(found, (switches, rest), "{seen} seen, {p5_ns} a switch");
        }
    }

    #[test]
    fn without_a_frequency_or_an_access_there_is_no_clock() {
        assert_eq!(GuestClock::of(&touches(None), 1, 1, None), None);
        assert_eq!(GuestClock::of(&touches(Some(0)), 1, 1, None), None);
        let none = Touches {
            tsc_khz: Some(1),
            ..Touches::default()
        };
        assert_eq!(GuestClock::of(&none, 0, 0, None), None);
    }
}
