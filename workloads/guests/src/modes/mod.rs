//! `modes`: guests of other shapes than four levels of 8-byte entries. All of it runs at CPL0,
//! where a guest sets its control registers.
//!
//! ```text
//! format, tree   tables of any format          switch   32-bit code, paging off and on
//! script         what the 32-bit code does     narrow   `pae` and `legacy32`
//! flat           `nopaging`                    wide     `la57`
//! toggles        `wp`, `nx`, `smep`, `smap`    management   `smm`
//! ```

mod flat;
mod management;
mod narrow;
mod script;
mod switch;
mod toggles;
mod tree;
mod wide;

use abi::{BootInfo, FrameRange, Gpa, Gva, Phase, ResultCode, Shape, to_usize};

use crate::check::Check;
use crate::paging::FramePool;
use crate::{call, paging};
use tree::{Format, Tree};

/// Pages whose entries change in each round.
const CHANGED: u64 = 8;

/// A run's parameters and memory.
struct Task {
    pages: u64,
    rounds: u64,
    seed: u64,
    tables: FrameRange,
    /// Frames for tables that are not used yet.
    pool: FramePool,
    frames: FrameRange,
}

/// Runs the shape of `info`, at CPL0; parameters are in the catalogue's order.
pub fn run(info: &BootInfo) -> ! {
    let [shape, pages, rounds, seed, ..] = info.params;
    let Some(&shape) = Shape::ALL.get(to_usize(shape)) else {
        call::done(ResultCode::BadBootInfo, &[]);
    };
    let mut task = Task {
        pages,
        rounds,
        seed,
        tables: info.tables,
        pool: FramePool::new(info.tables),
        frames: info.work,
    };
    let mut check = Check::default();
    call::mark(Phase::Map);
    let work = shape.work(info.work.start);
    match shape {
        Shape::Pae => narrow::run(&mut task, Format::PAE, work, &mut check),
        Shape::Legacy32 => narrow::run(&mut task, Format::LEGACY, work, &mut check),
        Shape::NoPaging => flat::run(&mut task, &mut check),
        Shape::La57 => wide::run(&mut task, work, &mut check),
        Shape::Wp => toggles::wp(&mut task, work, &mut check),
        Shape::Nx => toggles::nx(&mut task, work, &mut check),
        Shape::Smep => toggles::smep(&mut task, work, &mut check),
        Shape::Smap => toggles::smap(&mut task, work, &mut check),
        Shape::Smm => management::run(&mut task, work, &mut check),
    }
    check.finish()
}

impl Task {
    /// A frame of the work range.
    fn frame(&self, number: u64) -> Gpa {
        self.frames.start.add_frames(number)
    }

    /// A frame for a table, all zero.
    fn take(&mut self) -> Gpa {
        match self.pool.take() {
            Ok(frame) => frame,
            Err(paging::OutOfFrames) => call::done(ResultCode::OutOfFrames, &[]),
        }
    }

    /// New tables that map all but the work frames where they are, for CPL0 alone: with SMEP and
    /// SMAP the kernel may not use pages of CPL3.
    fn tree(&mut self, format: Format) -> Tree {
        let tree = Tree::new(format, self);
        let end = self.tables.end().0;
        // A null pointer faults.
        for at in (abi::PAGE_BYTES..end).step_by(to_usize(abi::PAGE_BYTES)) {
            let flags = paging::PRESENT | paging::WRITABLE;
            tree.map(Gva(at), Gpa(at), flags, self);
        }
        tree
    }

    /// The frame of a changed page: its own, or with `turned` that of the next.
    fn place(&self, page: u64, turned: bool) -> Gpa {
        let changed = self.changed();
        self.frame(if turned { (page + 1) % changed } else { page })
    }

    /// Number of pages whose entries change.
    fn changed(&self) -> u64 {
        self.pages.min(CHANGED)
    }
}
