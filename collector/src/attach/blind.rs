//! vCPUs whose faults KVM counts and no probe sees, said while they are recorded: afterwards it is
//! too late.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use events::{VcpuId, VmId};

/// Between two looks at the counters.
const EVERY: Duration = Duration::from_secs(2);
/// Faults that are missing for sure: those under way are fewer.
const LEAST: u64 = 1_000;

/// `pf_taken` of each vCPU.
pub type Taken = BTreeMap<(VmId, VcpuId), u64>;

/// Looks at the counters from time to time.
#[derive(Debug, Default)]
pub struct Watch {
    next: Option<Instant>,
    /// The first value of each vCPU.
    first: Taken,
    /// Faults of each vCPU that no probe had seen at the last look.
    missing: Taken,
    told: BTreeSet<VmId>,
}

impl Watch {
    /// Whether it is time to look.
    pub fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.next.is_none_or(|next| next <= now);
        if due {
            self.next = Some(now + EVERY);
        }
        due
    }

    /// What KVM has counted, and what the probes saw of it on the threads that they know. Gives each
    /// VM whose unseen faults grow, once, with their number.
    pub fn look(&mut self, counted: Taken, seen: &Taken) -> Vec<(VmId, u64)> {
        let mut missing = Taken::new();
        for (vcpu, taken) in counted {
            let first = *self.first.entry(vcpu).or_insert(taken);
            let seen = seen.get(&vcpu).copied().unwrap_or(first).max(first);
            missing.insert(vcpu, taken.saturating_sub(seen));
        }
        let mut blind = BTreeMap::new();
        for (vcpu, now) in &missing {
            let before = self.missing.get(vcpu).copied().unwrap_or_default();
            if before >= LEAST && *now > before {
                *blind.entry(vcpu.0).or_default() += now;
            }
        }
        self.missing = missing;
        blind.retain(|vm, _| self.told.insert(*vm));
        blind.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: (VmId, VcpuId) = (VmId(3), VcpuId(0));

    fn taken(number: u64) -> Taken {
        Taken::from([(ONE, number)])
    }

    #[test]
    fn a_vcpu_that_no_probe_follows_is_told_once() {
        let mut watch = Watch::default();
        let found =
            [70_000, 71_000, 72_500, 90_000].map(|now| watch.look(taken(now), &Taken::new()));
        assert_eq!(found, [vec![], vec![], vec![(VmId(3), 2_500)], vec![]]);
    }

    #[test]
    fn a_vcpu_that_is_followed_or_idle_is_not_blind() {
        let mut watch = Watch::default();
        for now in [70_000, 90_000, 110_000] {
            assert!(watch.look(taken(now), &taken(now - 20)).is_empty());
        }
        // It ran before the recording, and does not run now.
        let mut watch = Watch::default();
        for _ in 0..3 {
            assert!(watch.look(taken(70_000), &Taken::new()).is_empty());
        }
    }
}
