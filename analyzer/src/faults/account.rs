//! The run of a VM as an account: what its faults took of it, and the rest.

use serde::Serialize;

use crate::text::units::ns;

/// Where the time of a VM's run went.
///
/// The run is what the records prove: the VM's first record to its last moment, once for each of
/// its vCPUs. A vCPU that came later or was idle has its whole time in `not_attributed_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// First record to last moment, ns.
    pub wall_ns: u64,
    /// vCPUs.
    pub vcpus: u64,
    /// The run: `wall_ns` times `vcpus`, ns.
    pub total_ns: u64,
    /// Time in faults, ns: the sum of all classes.
    pub faults_ns: u64,
    /// Time outside of faults, ns: the guest ran, waited, or KVM did something else.
    pub not_attributed_ns: u64,
    /// Of `not_attributed_ns`, the time in acts of KVM on the tables, on vCPUs' threads; an act
    /// within another counts once. Absent where acts are not seen.
    pub acts_ns: Option<u64>,
}

impl Account {
    /// Of a VM that was seen from one moment to another. None where the faults take longer than
    /// the run, which no recorder writes.
    pub fn of([from, to]: [u64; 2], vcpus: u64, faults_ns: u64) -> Option<Self> {
        let wall_ns = to.checked_sub(from)?;
        let total_ns = wall_ns.checked_mul(vcpus)?;
        Some(Self {
            wall_ns,
            vcpus,
            total_ns,
            faults_ns,
            not_attributed_ns: total_ns.checked_sub(faults_ns)?,
            acts_ns: None,
        })
    }

    /// With the time in acts outside of faults; none where it is longer than the rest, which no
    /// recorder writes.
    pub fn with_acts(self, acts_ns: u64) -> Self {
        Self {
            acts_ns: Some(acts_ns).filter(|acts| *acts <= self.not_attributed_ns),
            ..self
        }
    }

    /// The run's length as people read it, with what it is multiplied by: a part of it in percent is
    /// one of all vCPUs' time.
    pub fn length(&self) -> String {
        match self.vcpus {
            1 => ns(self.wall_ns),
            several => format!("{} x {several} vCPUs", ns(self.wall_ns)),
        }
    }

    /// A part of the run, in percent.
    pub fn percent(&self, part_ns: u64) -> f64 {
        part_ns as f64 * 100.0 / self.total_ns.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_several_vcpus_is_not_called_the_time_by_the_clock() {
        let length = |vcpus| Account::of([0, 4_000_000_000], vcpus, 0).map(|run| run.length());
        assert_eq!(length(1).as_deref(), Some("4.00 s"));
        assert_eq!(length(2).as_deref(), Some("4.00 s x 2 vCPUs"));
    }
}
