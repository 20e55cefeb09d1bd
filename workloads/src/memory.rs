//! How much guest memory a workload needs, and its layout.

use abi::layout::{BOOT_TABLE_FRAMES, TABLE_POOL, WORK, WORK_POOL_ALIGN};
use abi::{FrameRange, Gpa, PIECE_PAGES, Shares, WorkloadId};

use crate::given::Given;

/// The memory that a workload's guest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Pages of the work range.
    pub(crate) pages: u64,
    /// Frames for page tables.
    pub(crate) tables: u64,
    /// Frames for the work range.
    pub(crate) frames: u64,
}

impl Needs {
    /// The needs of a workload with these parameters.
    pub(crate) fn of(workload: WorkloadId, given: Given<'_>) -> Self {
        let pages = |pages: u64, frames: u64| Self {
            pages,
            tables: table_frames(pages),
            frames,
        };
        let needs = match workload {
            WorkloadId::Linear | WorkloadId::Demand => {
                return pages(given.count("pages"), given.count("pages"));
            }
            WorkloadId::Crash => return pages(1, 1),
            WorkloadId::Remap => pages(given.count("pages"), 2 * given.count("pages")),
            WorkloadId::Switch => Self::of_switch(given),
            // The child's root and tables are freed and used again.
            WorkloadId::Fork => pages(given.count("pages"), 2 * given.count("pages"))
                .with_tables(1 + table_frames(given.count("pages"))),
            WorkloadId::Unsync => {
                let used = given.count("tables") * given.count("pages");
                pages(512 * given.count("tables"), 2 * used)
            }
            // Four regions, the last of which has two tables.
            WorkloadId::Flood => pages(4 * 512, 20).with_tables(1),
            WorkloadId::Huge => {
                let frames = 512 * given.count("regions");
                match given.choice("prevent") {
                    // One region more, over page tables.
                    "tables" => pages(frames + 512, frames),
                    _ => pages(frames, frames),
                }
            }
            WorkloadId::Alias => pages(given.count("aliases"), 1),
            WorkloadId::Recycle => pages(512 * given.count("tables"), given.count("tables")),
            WorkloadId::Protect | WorkloadId::Reclaim | WorkloadId::Dirty | WorkloadId::Memslot => {
                pages(given.count("pages"), given.count("pages"))
            }
            WorkloadId::Smp => {
                let (joint, cpus) = (given.count("pages"), given.count("vcpus"));
                let spaces = cpus * (1 + table_frames(joint));
                pages(joint, 2 * joint).with_tables(spaces + table_frames(2 * joint))
            }
            WorkloadId::Alloc => {
                let processes = given.count("processes");
                Self {
                    pages: PIECE_PAGES,
                    tables: processes * (1 + table_frames(PIECE_PAGES)),
                    frames: processes * PIECE_PAGES,
                }
            }
            WorkloadId::Micro => {
                let used = match given.choice("op") {
                    "fork" => given.count("pages"),
                    _ => given.count("ops"),
                };
                // A second root with its tables, and a frame of its own.
                pages(used, used + 1).with_tables(1 + table_frames(used))
            }
            WorkloadId::Access => pages(1, 1),
            WorkloadId::Modes => Self::of_modes(given.count("pages")),
            WorkloadId::Mixed => Self::of_mixed(given.count("vcpus")),
        };
        needs.with_view()
    }

    fn of_switch(given: Given<'_>) -> Self {
        let (spaces, pages) = (given.count("spaces"), given.count("pages"));
        let separate = if given.flag("shared") { 1 } else { spaces };
        Self {
            pages,
            tables: spaces + separate * table_frames(pages),
            frames: separate * pages,
        }
    }

    /// In each format: a root and a table for each level below it, twice; two tables for what is
    /// mapped where it is, one for the view of the frames. A large page of 4 MiB, aligned.
    fn of_modes(pages: u64) -> Self {
        const LARGE: u64 = 1024;
        Self {
            pages,
            tables: 12 + 3 * table_frames(pages),
            frames: pages + 2 * LARGE,
        }
    }

    fn of_mixed(cpus: u64) -> Self {
        let shares = shares(cpus);
        // For each CPU the whole range, two roots, a child of `fork` (root and three tables),
        // a split page and the second table of `flood`.
        let of_cpu = table_frames(shares.pages()) + 2 + 4 + 1 + 1;
        Self {
            pages: shares.pages(),
            tables: cpus * of_cpu + table_frames(shares.frames()),
            frames: shares.frames(),
        }
    }

    fn with_tables(self, more: u64) -> Self {
        Self {
            tables: self.tables + more,
            ..self
        }
    }

    /// Adds the tables of CPL3's view of all tables: a page table maps 512 of them, itself
    /// included.
    fn with_view(self) -> Self {
        let upper = 2;
        let page_tables = (self.tables + BOOT_TABLE_FRAMES + upper).div_ceil(511);
        self.with_tables(upper + page_tables)
    }
}

/// How `mixed` divides its work range, with frames from address 0 on.
fn shares(cpus: u64) -> Shares {
    Shares {
        start: Gpa(0),
        cpus,
    }
}

/// The pools of frames that a workload needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pools {
    pub(crate) tables: FrameRange,
    pub(crate) work: FrameRange,
}

impl Pools {
    pub(crate) fn new(needs: Needs) -> Self {
        let tables = FrameRange {
            start: TABLE_POOL,
            frames: needs.tables,
        };
        let work_start = Gpa(tables.end().0.next_multiple_of(WORK_POOL_ALIGN));
        Self {
            tables,
            work: FrameRange {
                start: work_start,
                frames: needs.frames,
            },
        }
    }

    /// Guest memory in bytes, from guest-physical address 0.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.work.end().0
    }
}

/// Page tables, page directories and the PDPT of `pages` pages from the start of the work range. It
/// starts at the begin of a PML4 entry, so it shares no table with another range.
pub(crate) fn table_frames(pages: u64) -> u64 {
    const _: () = assert!(WORK.0.is_multiple_of(1 << 39));
    let page_tables = pages.div_ceil(512);
    page_tables + page_tables.div_ceil(512) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, all};
    use abi::layout::IMAGE_END;

    #[test]
    fn tables_are_counted_level_by_level() {
        for (pages, frames) in [
            (1, 3),
            (512, 3),
            (513, 4),
            (512 * 512, 514),
            (512 * 512 + 1, 516),
        ] {
            assert_eq!(table_frames(pages), frames, "{pages} pages");
        }
    }

    #[test]
    fn the_view_contains_its_own_tables() {
        for tables in 0..3000 {
            let needs = Needs {
                pages: 1,
                tables,
                frames: 1,
            };
            let all = needs.with_view().tables;
            let page_tables = all - tables - 2;
            assert!(page_tables * 512 >= all + BOOT_TABLE_FRAMES, "{tables}");
        }
    }

    #[test]
    fn the_largest_of_each_workload_fits() {
        for workload in all() {
            let largest: Vec<_> = workload
                .params
                .iter()
                .filter_map(|param| match param.kind {
                    // Both counts of `unsync` at their largest are refused.
                    Kind::Count { .. } if (workload.name, param.name) == ("unsync", "pages") => {
                        Some((param.name.to_owned(), "2".to_owned()))
                    }
                    Kind::Count { max, .. } => Some((param.name.to_owned(), max.to_string())),
                    _ => None,
                })
                .collect();
            let info = workload.plan(&largest).unwrap().boot_info;
            assert!(info.memory_bytes < 3 << 30, "{}", workload.name);
            let mapped_by_boot_tables = (BOOT_TABLE_FRAMES - 3) * 512 * 4096;
            assert!(
                info.tables.end().0 <= mapped_by_boot_tables,
                "{}",
                workload.name
            );
            assert!(info.tables.start > IMAGE_END);
        }
    }
}
