//! What theory says of a workload's trace.

use abi::WorkloadId;

use crate::memory::table_frames;
use crate::plan::Given;

/// What the whole run leaves in the work range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults of the guest's own, which KVM hands to the guest kernel.
    pub guest_faults: u64,
    /// Faults that only the shadow tables cause and that write an entry; the guest never
    /// sees them.
    pub shadow_faults: u64,
    /// Faults that KVM gives up half-way and lets happen again, because the host changed
    /// its own mapping of the page meanwhile.
    pub retried_faults: u64,
    /// Shadow pages below the roots at the end: one for each of the guest's tables that
    /// translate the range, since each of them is walked and none is written after that.
    pub shadow_pages: u64,
    /// Leaf entries in them at the end.
    pub entries: u64,
}

/// The counts of a workload with these parameters; `None` where chance or the host decide.
pub(crate) fn counts(workload: WorkloadId, given: Given<'_>) -> Option<Counts> {
    match workload {
        WorkloadId::Linear => Some(touched(given)),
        WorkloadId::Demand => Some(Counts {
            guest_faults: given.count("pages"),
            ..touched(given)
        }),
        WorkloadId::Switch => Some(switch(given)),
        WorkloadId::Alias => Some(alias(given.count("aliases"))),
        _ => None,
    }
}

/// With `write=false` KVM maps each page read-only, for two reasons: the guest's entry is
/// clean, so KVM must see the first store to set its dirty bit; and the host backs a page
/// that was only read with its one page of zeroes. The store then faults again, the host
/// replaces the page of zeroes, which invalidates what KVM has just looked up, and the
/// fault is retried: a third exit, the second that writes an entry.
fn touched(given: Given<'_>) -> Counts {
    let pages = given.count("pages");
    let loads_first = if given.flag("write") { 0 } else { pages };
    Counts {
        guest_faults: 0,
        shadow_faults: pages + loads_first,
        retried_faults: loads_first,
        shadow_pages: table_frames(pages),
        entries: pages,
    }
}

/// A space's tables are shadowed for good: KVM finds their shadow again when the root that
/// it had forgotten comes back, so that only the first touch of a page writes an entry. Where
/// all have the same tables, a new root's first touch links them and finds the entry written.
fn switch(given: Given<'_>) -> Counts {
    let pages = given.count("pages");
    let apart = if given.flag("shared") {
        1
    } else {
        given.count("spaces")
    };
    Counts {
        shadow_faults: apart * pages,
        shadow_pages: apart * table_frames(pages),
        entries: apart * pages,
        ..Counts::default()
    }
}

/// Entries that a frame has when KVM, adding one, drops them all (`RMAP_RECYCLE_THRESHOLD`).
const RECYCLED_ABOVE: usize = 1000;
/// Entries of an aligned group that a fault looks at, to write those that are accessed.
const GROUP: usize = 8;

/// Every alias is stored to once, then loaded once, in order. What each access does to the
/// entries is what KVM does: add the entry, drop all if there were too many, then add those
/// of its group whose guest entry is accessed, up to the first that is not.
fn alias(aliases: u64) -> Counts {
    let pages = aliases as usize;
    let mut entries = Aliases {
        present: vec![false; pages],
        count: 0,
    };
    let mut accessed = vec![false; pages];
    let mut faults = 0;
    for page in (0..pages).chain(0..pages) {
        while !entries.present[page] {
            faults += 1;
            accessed[page] = true;
            entries.add(page);
            let group = page / GROUP * GROUP;
            for neighbour in (group..pages.min(group + GROUP)).filter(|&one| one != page) {
                if entries.present[neighbour] {
                    continue;
                }
                if !accessed[neighbour] {
                    break;
                }
                entries.add(neighbour);
            }
        }
    }
    Counts {
        shadow_faults: faults,
        shadow_pages: table_frames(aliases),
        entries: entries.count as u64,
        ..Counts::default()
    }
}

struct Aliases {
    present: Vec<bool>,
    count: usize,
}

impl Aliases {
    fn add(&mut self, page: usize) {
        let before = self.count;
        self.present[page] = true;
        self.count += 1;
        if before > RECYCLED_ABOVE {
            self.present.fill(false);
            self.count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_aliases_fault_once_each() {
        for aliases in [1, 7, 8, 1000, 1001] {
            let counts = alias(aliases);
            assert_eq!(counts.shadow_faults, aliases);
            assert_eq!(counts.entries, aliases);
        }
    }

    #[test]
    fn one_alias_too_many_drops_all() {
        // Page 1001 is the one: it faults again, with page 1000 beside it. The loads then fault
        // once for each group of the first 1,000 pages, the last of which makes 1,002 entries
        // and drops all; that group and the last two pages come again.
        let counts = alias(1002);
        assert_eq!(counts.shadow_faults, 1003 + 125 + 2);
        assert_eq!(counts.entries, 10);
    }
}
