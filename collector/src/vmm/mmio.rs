//! Guest memory that KVM cannot always reach: the VMM serves these accesses then.
//!
//! An access to guest-physical memory without a memslot ends in `KVM_EXIT_MMIO`. So does an
//! emulated access whose host memory is away for a moment.

use abi::{Gpa, PAGE_BYTES};
use workloads::{Actor, Plan};

/// A range whose accesses may come to the VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    /// The guest-physical address that the guest uses.
    at: Gpa,
    bytes: u64,
    /// The guest-physical address of its memory in [`super::memory::Ram`].
    backing: Gpa,
}

/// All such ranges of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MmioRanges(Vec<Range>);

impl MmioRanges {
    /// Memslots that actors move, at both of their addresses, and memory that they move in the
    /// host.
    pub(super) fn of(plan: &Plan) -> Self {
        let mut ranges = Vec::new();
        for actor in &plan.host.actors {
            match actor {
                Actor::Memslots { slot, window, .. } => {
                    if let Some(slot) = plan.host.slots.iter().find(|one| one.id == *slot) {
                        ranges.extend([slot.gpa, *window].map(|at| Range {
                            at,
                            bytes: slot.bytes,
                            backing: slot.gpa,
                        }));
                    }
                }
                Actor::Reclaim { disturb, .. } => ranges.push(Range {
                    at: disturb.start,
                    bytes: disturb.frames.saturating_mul(PAGE_BYTES),
                    backing: disturb.start,
                }),
                Actor::DirtyLog { .. } => {}
            }
        }
        Self(ranges)
    }

    /// The memory of an access; `None` if the VMM does not serve it.
    pub(super) fn backing(&self, gpa: u64, bytes: usize) -> Option<Gpa> {
        self.0.iter().find_map(|range| {
            let offset = gpa.checked_sub(range.at.0)?;
            let end = offset.checked_add(bytes as u64)?;
            (end <= range.bytes).then(|| range.backing.add(offset))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_accesses_inside_a_range_are_served() {
        let range = |at, backing| Range {
            at: Gpa(at),
            bytes: 0x2000,
            backing: Gpa(backing),
        };
        let ranges = MmioRanges(vec![range(0x4000, 0x4000), range(0x9000, 0x4000)]);
        for (gpa, bytes, backing) in [
            (0x4000, 8, Some(0x4000)),
            (0x5ff8, 8, Some(0x5ff8)),
            (0x5ff9, 8, None),
            (0x3fff, 1, None),
            (0x9010, 4, Some(0x4010)),
            (0xb000, 1, None),
            (u64::MAX, 8, None),
        ] {
            assert_eq!(ranges.backing(gpa, bytes), backing.map(Gpa), "{gpa:#x}");
        }
        assert_eq!(MmioRanges::default().backing(0, 1), None);
    }
}
