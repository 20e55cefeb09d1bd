//! How much guest memory a workload needs, and where its frames lie.

use abi::layout::{TABLE_POOL, WORK, WORK_POOL_ALIGN};
use abi::{FrameRange, Gpa};

/// The pools behind a work range of `pages` pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pools {
    pub(crate) tables: FrameRange,
    pub(crate) work: FrameRange,
}

impl Pools {
    pub(crate) fn new(pages: u64) -> Self {
        let tables = FrameRange {
            start: TABLE_POOL,
            frames: table_frames(pages),
        };
        let work_start = Gpa(tables.end().0.next_multiple_of(WORK_POOL_ALIGN));
        Self {
            tables,
            work: FrameRange {
                start: work_start,
                frames: pages,
            },
        }
    }

    /// Guest memory in bytes, from guest-physical address 0.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.work.end().0
    }
}

/// Page tables, page directories and the one PDPT below the work range's PML4 slot. The
/// range starts at a slot's start, so no table is shared or cut.
fn table_frames(pages: u64) -> u64 {
    const _: () = assert!(WORK.0.is_multiple_of(1 << 39));
    let page_tables = pages.div_ceil(512);
    page_tables + page_tables.div_ceil(512) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::MAX_PAGES;
    use abi::layout::{BOOT_TABLE_FRAMES, IMAGE_END};

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
    fn the_largest_range_fits() {
        let pools = Pools::new(MAX_PAGES);
        assert!(pools.memory_bytes() < 3 << 30);
        let mapped_by_boot_tables = (BOOT_TABLE_FRAMES - 3) * 512 * 4096;
        assert!(pools.tables.end().0 <= mapped_by_boot_tables);
        assert!(pools.tables.start > IMAGE_END);
    }
}
