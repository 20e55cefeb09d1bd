//! The guest kernel's state. It maps the work range at the start or on demand.

use abi::layout::{BOOT_TABLES, TABLE_VIEW, WORK};
use abi::{BootInfo, FrameRange, Gpa, Gva, PAGE_BYTES, Phase, ResultCode, WorkloadId};
use core::cell::UnsafeCell;

use crate::paging::{FramePool, Mapper, OutOfFrames};
use crate::{call, crash, micro, modes, service};

struct Kernel {
    mapper: Mapper,
    frames: FramePool,
    /// The part of the work range that a page fault may map.
    demand_bytes: u64,
}

struct KernelCell(UnsafeCell<Kernel>);

// SAFETY: only CPU 0 accesses it, with interrupts off, through `with_kernel`, whose callers do not
// nest: at CPL0 before it enters CPL3 and in faults of guests with one CPU, and at CPL3 once before
// the other CPUs begin.
unsafe impl Sync for KernelCell {}

static KERNEL: KernelCell = KernelCell(UnsafeCell::new(Kernel {
    mapper: Mapper::EMPTY,
    frames: FramePool::EMPTY,
    demand_bytes: 0,
}));

fn with_kernel<T>(work: impl FnOnce(&mut Kernel) -> T) -> T {
    // SAFETY: see `KernelCell`.
    work(unsafe { &mut *KERNEL.0.get() })
}

/// Prepares the kernel for the workload. CPL0 only.
pub fn start(info: &BootInfo) {
    let demand = info.workload == WorkloadId::Demand.number();
    with_kernel(|kernel| {
        *kernel = Kernel {
            mapper: Mapper::new(info.tables),
            frames: FramePool::new(info.work),
            demand_bytes: if demand {
                info.params[0] * PAGE_BYTES
            } else {
                0
            },
        }
    });
    match WorkloadId::try_from(info.workload) {
        Ok(WorkloadId::Linear) => map_all(info.params[0]),
        Ok(WorkloadId::Crash) => crash::prepare(info),
        Ok(WorkloadId::Modes) => modes::run(info),
        Ok(WorkloadId::Micro) => {
            micro::prepare(info);
            show_tables(info.tables.end());
        }
        Ok(_) if service::changes_tables_at_cpl3(info) => show_tables(info.tables.end()),
        Ok(_) | Err(_) => {}
    }
}

/// Maps all frames for page tables into CPL3's view of them.
fn show_tables(end: Gpa) {
    let frames = (end.0 - BOOT_TABLES.0) / PAGE_BYTES;
    for frame in 0..frames {
        let at = TABLE_VIEW.add_pages(frame);
        if with_kernel(|kernel| kernel.mapper.map(at, BOOT_TABLES.add_frames(frame))).is_err() {
            call::done(ResultCode::OutOfFrames, &[frame]);
        }
    }
}

/// Hands the unused frames for page tables over to CPL3.
pub fn give_tables() -> FrameRange {
    with_kernel(|kernel| kernel.mapper.give_tables())
}

fn map_all(pages: u64) {
    call::mark(Phase::Map);
    for page in 0..pages {
        if with_kernel(|kernel| kernel.map(WORK.add_pages(page))).is_err() {
            call::done(ResultCode::OutOfFrames, &[page]);
        }
    }
}

/// Maps the page of `address`, if the workload maps pages on demand; called by the #PF handler.
#[inline(always)]
pub fn map_on_demand(address: u64) -> bool {
    let offset = address.wrapping_sub(WORK.0);
    let mapped = with_kernel(|kernel| {
        let wanted = offset < kernel.demand_bytes;
        wanted.then(|| kernel.map(Gva(address)))
    });
    if let Some(Err(OutOfFrames)) = mapped {
        call::done(ResultCode::OutOfFrames, &[offset / PAGE_BYTES]);
    }
    mapped.is_some()
}

/// Maps the page of `gva` to the frame at `frame`, which may not exist: for `crash`.
pub fn map_frame(gva: Gva, frame: Gpa) {
    // Without a frame for a table the access of CPL3 faults and is reported.
    let _ = with_kernel(|kernel| kernel.mapper.map(gva, frame));
}

impl Kernel {
    /// Maps the page of `gva` to the next free frame.
    #[inline(always)]
    fn map(&mut self, gva: Gva) -> Result<(), OutOfFrames> {
        self.mapper.map(gva, self.frames.take()?)
    }
}
