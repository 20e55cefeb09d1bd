//! `alloc`: processes that map, touch and release memory, piece by piece, each in an address space
//! of its own.

use abi::layout::WORK;
use abi::{BootInfo, Gpa, MAX_PROCESSES, PIECE_PAGES, Phase, ResultCode, to_usize};

use crate::access::{load, store, try_store};
use crate::check::Check;
use crate::lock::Lock;
use crate::paging::FLAGS;
use crate::tables::{self, Space};
use crate::{call, cpu, team};

/// The root of each process.
static ROOTS: Lock<[Gpa; MAX_PROCESSES as usize]> = Lock::new([Gpa(0); MAX_PROCESSES as usize]);

/// Runs on CPU 0: makes the processes.
pub fn lead(info: &BootInfo) -> ! {
    let [_, processes, ..] = info.params;
    tables::start();
    call::mark(Phase::Map);
    for process in 0..to_usize(processes) {
        let space = Space::new();
        // The tables are there, their leaf entries are empty.
        let _ = space.entry(WORK, 1);
        let known = ROOTS.with(|roots| roots.get_mut(process).map(|root| *root = space.root()));
        if known.is_none() {
            call::done(ResultCode::BadBootInfo, &[]);
        }
    }
    call::mark(Phase::Work);
    team::begin();
    work(info)
}

/// Runs on the other CPUs.
pub fn join(info: &BootInfo) -> ! {
    team::wait();
    work(info)
}

/// The processes of this CPU in turn, a piece each.
fn work(info: &BootInfo) -> ! {
    let [cpus, processes, pieces, populate, seed, ..] = info.params;
    let own = u64::from(cpu::number());
    let mut check = Check::default();
    for piece in 0..pieces {
        for process in (own..processes).step_by(to_usize(cpus)) {
            let root = ROOTS.with(|roots| roots[to_usize(process)]);
            let values = (piece * processes + process) * PIECE_PAGES;
            let one = Piece {
                space: Space::at(root),
                first: info.work.start.add_frames(process * PIECE_PAGES),
                values,
                seed,
            };
            one.space.load();
            match populate {
                1 => one.map_all(),
                _ => one.map_each(&mut check),
            }
            one.touch(&mut check);
            one.release();
        }
    }
    team::finish(cpus);
    check.finish()
}

/// A piece of memory of one process.
struct Piece {
    space: Space,
    first: Gpa,
    values: u64,
    seed: u64,
}

impl Piece {
    fn frame(&self, page: u64) -> Gpa {
        self.first.add_frames(page)
    }

    fn value(&self, page: u64) -> u64 {
        abi::value(self.values + page, self.seed)
    }

    /// Maps all pages before one is touched.
    fn map_all(&self) {
        let frames = (0..PIECE_PAGES).map(|page| self.frame(page));
        self.space.map_run(WORK, frames);
    }

    /// Maps each page when a store to it has faulted.
    fn map_each(&self, check: &mut Check) {
        for page in 0..PIECE_PAGES {
            let gva = WORK.add_pages(page);
            match try_store(gva, self.value(page)) {
                Err(refused) if !refused.is_present() => {
                    self.space.entry(gva, 1).set(self.frame(page).0 | FLAGS);
                    store(gva, self.value(page));
                }
                // It is still mapped.
                _ => check.value(page, 1, 0),
            }
        }
    }

    /// Stores to each page, and loads what was stored.
    fn touch(&self, check: &mut Check) {
        for page in 0..PIECE_PAGES {
            store(WORK.add_pages(page), self.value(page));
        }
        for page in 0..PIECE_PAGES {
            check.value(page, load(WORK.add_pages(page)), self.value(page));
        }
    }

    /// Unmaps all pages, and flushes them.
    fn release(&self) {
        self.space.fill(WORK, (0..PIECE_PAGES).map(|_| 0));
        self.space.load();
    }
}
