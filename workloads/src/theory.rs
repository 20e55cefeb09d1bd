//! The counts that theory predicts for a workload's trace.

use abi::{PIECE_PAGES, Shape, WorkloadId, to_usize};

use crate::given::Given;
use crate::memory::table_frames;

/// The counts of a whole run in the work range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Guest page faults, which KVM injects into the guest.
    pub guest_faults: u64,
    /// Shadow faults that write an entry; the guest does not see them.
    pub shadow_faults: u64,
    /// Faults that KVM retries, because the host changed its mapping of the page meanwhile. With
    /// several vCPUs it depends on chance: what the host changes for one of them makes KVM retry
    /// any fault that another has just then, of whatever page (`mmu_invalidate_seq`).
    pub retried_faults: Option<u64>,
    /// Shadow pages below the roots at the end: one for each guest table of the range, since each
    /// is walked and none is written after that.
    pub shadow_pages: u64,
    /// Leaf entries in these shadow pages at the end.
    pub entries: u64,
}

/// The counts of a workload with these parameters; `None` if they depend on chance or the host.
pub(crate) fn counts(workload: WorkloadId, given: Given<'_>) -> Option<Counts> {
    match workload {
        WorkloadId::Linear => Some(touched(given)),
        WorkloadId::Demand => Some(Counts {
            guest_faults: given.count("pages"),
            ..touched(given)
        }),
        WorkloadId::Switch => Some(switch(given)),
        WorkloadId::Alloc => Some(alloc(given)),
        WorkloadId::Micro => micro(given),
        WorkloadId::Modes => Some(modes(given)),
        WorkloadId::Alias => Some(alias(given.count("aliases"))),
        _ => None,
    }
}

/// With `write=false` KVM maps each page read-only, for two reasons: the guest's entry is not
/// dirty, so KVM must see the first store to set its dirty bit; and the host backs a page that was
/// only read with its zero page. The store then faults again. The host replaces the zero page,
/// which invalidates what KVM has just looked up, and the fault is retried: a third exit, the
/// second that writes an entry.
fn touched(given: Given<'_>) -> Counts {
    let pages = given.count("pages");
    let loads_first = if given.flag("write") { 0 } else { pages };
    Counts {
        guest_faults: 0,
        shadow_faults: pages + loads_first,
        retried_faults: Some(loads_first),
        shadow_pages: table_frames(pages),
        entries: pages,
    }
}

/// The shadow of an address space's tables is kept: KVM finds it again when a root that it had
/// dropped is loaded again, so that only the first touch of a page writes an entry. Where all
/// spaces share their tables, the first touch under a new root links them, and the entry exists
/// already.
fn switch(given: Given<'_>) -> Counts {
    let pages = given.count("pages");
    let separate = if given.flag("shared") {
        1
    } else {
        given.count("spaces")
    };
    Counts {
        shadow_faults: separate * pages,
        shadow_pages: separate * table_frames(pages),
        entries: separate * pages,
        retried_faults: Some(0),
        ..Counts::default()
    }
}

/// Each page of each piece is mapped anew, so it faults again: in the guest too, unless all pages
/// were mapped before. What is released leaves no entry, and the tables stay.
fn alloc(given: Given<'_>) -> Counts {
    let processes = given.count("processes");
    let touched = processes * given.count("mib") * PIECE_PAGES;
    Counts {
        guest_faults: if given.flag("populate") { 0 } else { touched },
        shadow_faults: touched,
        retried_faults: (given.count("vcpus") == 1).then_some(0),
        shadow_pages: processes * table_frames(PIECE_PAGES),
        entries: 0,
    }
}

/// Before the first batch each page is stored to once. The operations that do not fault have no
/// counts here: what they leave depends on how KVM runs the guest's kernel.
fn micro(given: Given<'_>) -> Option<Counts> {
    let (pages, batches) = (given.count("ops"), given.count("batches"));
    let all = pages * batches;
    let [guest_faults, shadow_faults] = match given.choice("op") {
        "shadow-fault" => [0, all],
        "page-fault" => [all, all],
        // A load maps each page read-only before.
        "protection-fault" => [all, 2 * all],
        // A load after each batch is refused, and all pages are loaded at the end.
        "map-unmap" => [batches, all + pages],
        _ => return None,
    };
    Some(Counts {
        guest_faults,
        shadow_faults: pages + shadow_faults,
        retried_faults: Some(0),
        shadow_pages: table_frames(pages),
        entries: pages,
    })
}

/// Pages whose entries `modes` changes in each round.
const CHANGED: u64 = 8;

/// Each page faults once. What a mode adds:
/// - In each round the changed pages fault in the guest, which finds no entry, and in KVM, which
///   finds the new one. That is a load, so that the first store of the next round faults again:
///   until KVM has set the guest's dirty bit, its own entry is read-only.
/// - Without CR0.WP a page has a second shadow, in which CPL0 may write. Each round stores to each
///   page while CR0.WP is set, which is refused.
/// - EFER.NXE, SMEP and SMAP need no other shadow. The guest is refused where its own entries say
///   so: even pages, once in each round, or of `nx` twice in the one round that they belong to.
fn modes(given: Given<'_>) -> Counts {
    let (pages, rounds) = (given.count("pages"), given.count("rounds"));
    let even = pages.div_ceil(2);
    let [guest_faults, shadow_faults] = match Shape::from_name(given.choice("shape")) {
        Some(Shape::Pae | Shape::Legacy32 | Shape::La57) => {
            [CHANGED * rounds, pages + CHANGED * (2 * rounds - 1)]
        }
        Some(Shape::Wp) => [pages * rounds, 2 * pages],
        Some(Shape::Nx) => [2 * even, pages],
        Some(Shape::Smep | Shape::Smap) => [even * rounds, pages],
        Some(Shape::NoPaging | Shape::Smm) | None => [0, pages],
    };
    let leaf_tables = pages.div_ceil(512);
    let (shadow_pages, entries) = match Shape::from_name(given.choice("shape")) {
        // Below a PDPTE: one page of level 2. A table of 1024 entries has two leaf pages.
        Some(Shape::Pae | Shape::Legacy32 | Shape::NoPaging | Shape::Smm) => {
            (1 + leaf_tables, pages)
        }
        Some(Shape::La57) => (1 + table_frames(pages), pages),
        Some(Shape::Wp) => (2 * table_frames(pages), 2 * pages),
        Some(Shape::Nx | Shape::Smep | Shape::Smap) | None => (table_frames(pages), pages),
    };
    Counts {
        guest_faults,
        shadow_faults,
        retried_faults: Some(0),
        shadow_pages,
        entries,
    }
}

/// If a frame has more entries than this, KVM drops all of them when it adds one
/// (`RMAP_RECYCLE_THRESHOLD`).
const RECYCLED_ABOVE: usize = 1000;
/// Entries of an aligned group, which a fault prefetches if they are accessed.
const GROUP: usize = 8;

/// Every alias is stored to once, then loaded once, in order. Each access changes the entries as
/// KVM does: it adds the entry, drops all if there were too many, then adds those of its group
/// whose guest entry is accessed, up to the first that is not.
fn alias(aliases: u64) -> Counts {
    let pages = to_usize(aliases);
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
        retried_faults: Some(0),
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
    fn one_alias_more_drops_all() {
        // Page 1001 drops all and faults again, which prefetches page 1000. The loads then fault
        // once for each group of the first 1,000 pages; the last of them makes 1,002 entries and
        // drops all, and that group and the last two pages fault again.
        let counts = alias(1002);
        assert_eq!(counts.shadow_faults, 1003 + 125 + 2);
        assert_eq!(counts.entries, 10);
    }
}
