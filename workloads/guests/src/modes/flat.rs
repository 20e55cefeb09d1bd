//! `nopaging`: 32-bit code that uses guest-physical addresses.

use abi::{Gva, Phase};

use super::Task;
use super::script::Script;
use super::switch::{self, Mode};
use crate::check::Check;

/// In each round: paging off, all pages used, and back.
pub fn run(task: &mut Task, check: &mut Check) {
    let work = Gva(task.frames.start.0);
    let home = Mode::now();
    let mut script = Script::new();
    let script = &mut script;
    for round in 0..task.rounds {
        *script = Script::new();
        if round == 0 {
            script.mark(Phase::Touch);
        }
        let value = task.seed + round * task.pages;
        script.store(work, task.pages, value);
        if round + 1 == task.rounds {
            script.mark(Phase::Check);
        }
        script.load(work, task.pages, value);
        switch::run(home.flat(), home, script);
        script.check(round, check);
        if check.is_bad() {
            return;
        }
    }
}
