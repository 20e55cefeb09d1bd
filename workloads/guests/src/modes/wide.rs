//! `la57`: tables of five levels.

use abi::{Gva, Phase, value};

use super::Task;
use super::switch::{self, Mode};
use super::tree::Format;
use crate::access::{load, store, try_load};
use crate::check::Check;
use crate::paging::FLAGS;
use crate::{call, cpu};

/// In each round: five levels, all pages used, some entries changed, and back to four.
pub fn run(task: &mut Task, work: Gva, check: &mut Check) {
    let tree = task.tree(Format::LONG_57);
    for page in 0..task.pages {
        tree.map(work.add_pages(page), task.frame(page), FLAGS, task);
    }
    let home = Mode::now();
    let there = home.five_levels(tree.root.0);
    for round in 0..task.rounds {
        switch::change(there);
        if round == 0 {
            call::mark(Phase::Touch);
        }
        let seed = task.seed + round;
        let held = |page| value(page, seed);
        for page in 0..task.pages {
            store(work.add_pages(page), held(page));
        }
        let (changed, turned) = (task.changed(), round % 2 == 0);
        for page in 0..changed {
            let (gva, entry) = (
                work.add_pages(page),
                tree.entry(work.add_pages(page), 1, task),
            );
            tree.set(entry, 0);
            cpu::invalidate(gva.0);
            check.access(page, try_load(gva).map(|_| ()), Some(0));
            tree.set(entry, task.place(page, turned).0 | FLAGS);
            cpu::invalidate(gva.0);
        }
        for page in 0..changed {
            let from = if turned { page + 1 } else { page + changed - 1 };
            check.value(page, load(work.add_pages(page)), held(from % changed));
        }
        if round + 1 == task.rounds {
            call::mark(Phase::Check);
        }
        for page in changed..task.pages {
            check.value(page, load(work.add_pages(page)), held(page));
        }
        switch::change(home);
    }
}
