//! Guest memory that KVM does not always find: the VMM stands in for it then.
//!
//! An access to guest-physical memory without a memslot ends in `KVM_EXIT_MMIO`, and so does an
//! emulated one whose host memory is away for the moment.

use abi::{Gpa, PAGE_BYTES};
use workloads::{Actor, Plan};

/// A range whose memory may be asked for by way of the VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    /// Where KVM may ask for it.
    at: Gpa,
    bytes: u64,
    /// Where it is in guest memory.
    home: Gpa,
}

/// All such ranges of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StandIn(Vec<Range>);

impl StandIn {
    /// Memslots that are moved, at both of their places, and memory that is moved in the host.
    pub(super) fn of(plan: &Plan) -> Self {
        let mut ranges = Vec::new();
        for actor in &plan.host.actors {
            match actor {
                Actor::Memslots { slot, window, .. } => {
                    let slot = plan.host.slots.iter().find(|one| one.id == *slot);
                    for slot in slot.into_iter() {
                        for at in [slot.gpa, *window] {
                            ranges.push(Range {
                                at,
                                bytes: slot.bytes,
                                home: slot.gpa,
                            });
                        }
                    }
                }
                Actor::Reclaim { disturb, .. } => ranges.push(Range {
                    at: disturb.start,
                    bytes: disturb.frames.saturating_mul(PAGE_BYTES),
                    home: disturb.start,
                }),
                Actor::DirtyLog { .. } => {}
            }
        }
        Self(ranges)
    }

    /// Where the memory of an access is; `None` if it is none of ours.
    pub(super) fn home(&self, gpa: u64, bytes: usize) -> Option<Gpa> {
        self.0.iter().find_map(|range| {
            let offset = gpa.checked_sub(range.at.0)?;
            let end = offset.checked_add(bytes as u64)?;
            (end <= range.bytes).then(|| range.home.add(offset))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_inside_or_is_not_served() {
        let range = |at, home| Range {
            at: Gpa(at),
            bytes: 0x2000,
            home: Gpa(home),
        };
        let stand_in = StandIn(vec![range(0x4000, 0x4000), range(0x9000, 0x4000)]);
        for (gpa, bytes, home) in [
            (0x4000, 8, Some(0x4000)),
            (0x5ff8, 8, Some(0x5ff8)),
            (0x5ff9, 8, None),
            (0x3fff, 1, None),
            (0x9010, 4, Some(0x4010)),
            (0xb000, 1, None),
            (u64::MAX, 8, None),
        ] {
            assert_eq!(stand_in.home(gpa, bytes), home.map(Gpa), "{gpa:#x}");
        }
        assert_eq!(StandIn::default().home(0, 1), None);
    }
}
