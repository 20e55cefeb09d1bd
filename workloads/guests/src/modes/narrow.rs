//! `pae` and `legacy32`: 32-bit code over tables of three levels, or of two with 4-byte entries.

use abi::{Gva, PAGE_BYTES, Phase};

use super::Task;
use super::script::Script;
use super::switch::{self, Mode};
use super::tree::{Format, Tree};
use crate::check::Check;
use crate::paging::{FLAGS, LARGE};

/// A large page: the third GiB.
const LARGE_PAGE: Gva = Gva(0x8000_0000);
/// The first leaf table of the work range once more: the fourth GiB.
const ALIAS: Gva = Gva(0xc000_0000);
/// Pages of the large page that are used.
const LARGE_USED: u64 = 4;

/// In each round: into the mode, all pages used, some entries changed, an entry above the leaves
/// changed, a large page used, and back.
pub fn run(task: &mut Task, format: Format, work: Gva, check: &mut Check) {
    let tree = task.tree(format);
    for page in 0..task.pages {
        tree.map(work.add_pages(page), task.frame(page), FLAGS, task);
    }
    let above = tree.entry(work, 2, task);
    let alias = tree.entry(ALIAS, 2, task);
    tree.set(alias, tree.get(above));
    let large = tree.entry(LARGE_PAGE, 2, task);
    let bytes = format.pages(2) * PAGE_BYTES;
    let frames = task.frame(task.pages).0.next_multiple_of(bytes);
    tree.set(large, frames | FLAGS | LARGE);

    let home = Mode::now();
    let there = match format {
        Format::LEGACY => home.legacy(tree.root.0),
        _ => home.pae(tree.root.0),
    };
    let mut script = Script::new();
    let script = &mut script;
    for round in 0..task.rounds {
        *script = Script::new();
        if round == 0 {
            script.mark(Phase::Touch);
        }
        let value = task.seed + round * task.pages;
        script.store(work, task.pages, value);
        script.load(work, task.pages, value);
        change(task, &tree, work, round, value, script);
        // The pages past those that changed, at their other address.
        let changed = task.changed();
        let rest = task.pages.min(format.pages(2)) - changed;
        script.load(ALIAS.add_pages(changed), rest, value + changed);
        let link = tree.get(above);
        script.set(alias, format.entry_bytes, 1, 0, 0);
        script.invalidate(ALIAS, 1);
        script.refused(ALIAS, 1);
        script.set(alias, format.entry_bytes, 1, link, 0);
        script.load(ALIAS.add_pages(changed), rest, value + changed);
        script.store(LARGE_PAGE, LARGE_USED, value);
        script.load(LARGE_PAGE, LARGE_USED, value);
        // The last page of the large page, in the last of the tables that shadow it.
        let last = LARGE_PAGE.add_pages(format.pages(2) - 1);
        script.store(last, 1, value);
        script.load(last, 1, value);
        if round + 1 == task.rounds {
            script.mark(Phase::Check);
            script.load(ALIAS.add_pages(changed), rest, value + changed);
        }
        switch::run(there, home, script);
        script.check(round, check);
        if check.is_bad() {
            return;
        }
    }
}

/// Clears the entries of the first pages, and lets each of them map its own frame and that of the
/// next page in turn.
fn change(task: &mut Task, tree: &Tree, work: Gva, round: u64, value: u64, script: &mut Script) {
    let (changed, bytes) = (task.changed(), tree.format.entry_bytes);
    let entry = tree.entry(work, 1, task);
    script.set(entry, bytes, changed, 0, 0);
    script.invalidate(work, changed);
    script.refused(work, changed);
    let turned = round % 2 == 0;
    let (first, last) = (task.place(0, turned), task.place(changed - 1, turned));
    script.set(entry, bytes, changed - 1, first.0 | FLAGS, PAGE_BYTES);
    let end = entry.add(bytes * (changed - 1));
    script.set(end, bytes, 1, last.0 | FLAGS, 0);
    script.invalidate(work, changed);
    // What page `n` holds was stored to page `n + 1`, or to `n - 1`.
    if turned {
        script.load(work, changed - 1, value + 1);
        script.load(work.add_pages(changed - 1), 1, value);
    } else {
        script.load(work, 1, value + changed - 1);
        script.load(work.add_pages(1), changed - 1, value);
    }
}
