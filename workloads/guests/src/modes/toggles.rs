//! `wp`, `nx`, `smep` and `smap`: a bit of a control register on and off, under tables of four
//! levels. Even pages have the flag that the bit is about, odd pages do not.

use core::ops::Range;

use abi::layout::FRAME_VIEW;
use abi::{Gva, Phase, value};

use super::Task;
use super::switch::{self, Mode};
use super::tree::Format;
use crate::access::{self, try_call, try_load, try_store};
use crate::check::Check;
use crate::paging::{NO_EXECUTE, PRESENT, USER, WRITABLE};
use crate::{call, cpu};

/// Offset of the code in each frame: one `ret`.
const CODE: u64 = 64;
const RET: u64 = 0xc3;

// Bits of a page fault's error code.
const STORE: u64 = 1 << 1;
const RESERVED: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;

/// CR0.WP.
const WRITE_PROTECT: u64 = 1 << 16;
/// EFER.NXE.
const NO_EXECUTE_ENABLE: u64 = 1 << 11;
/// CR4.SMEP.
const NO_USER_EXECUTION: u64 = 1 << 20;
/// CR4.SMAP.
const NO_USER_ACCESS: u64 = 1 << 21;

fn is_even(page: u64) -> bool {
    page.is_multiple_of(2)
}

/// Into tables that map the work pages with these flags. Their frames hold a value and code.
fn prepare(task: &mut Task, work: Gva, flags: impl Fn(u64) -> u64) {
    let tree = task.tree(Format::LONG);
    for page in 0..task.pages {
        let view = FRAME_VIEW.add_pages(page);
        tree.map(view, task.frame(page), PRESENT | WRITABLE, task);
        tree.map(work.add_pages(page), task.frame(page), flags(page), task);
    }
    switch::change(Mode::now().four_levels(tree.root.0));
    for page in 0..task.pages {
        access::store(FRAME_VIEW.add_pages(page), value(page, task.seed));
        access::store(FRAME_VIEW.add_pages(page).add(CODE), RET);
    }
    call::mark(Phase::Work);
}

/// Loads pages; `refused` gives the error code of those that must fault.
fn load_all(
    task: &Task,
    (work, pages): (Gva, Range<u64>),
    check: &mut Check,
    refused: impl Fn(u64) -> Option<u64>,
) {
    for page in pages {
        match refused(page) {
            None => check.load(page, try_load(work.add_pages(page)), value(page, task.seed)),
            code => check.access(page, try_load(work.add_pages(page)).map(|_| ()), code),
        }
    }
}

fn call_all(
    (work, pages): (Gva, Range<u64>),
    check: &mut Check,
    refused: impl Fn(u64) -> Option<u64>,
) {
    for page in pages {
        let called = try_call(work.add_pages(page).add(CODE));
        check.access(page, called, refused(page));
    }
}

/// Read-only pages of CPL3: CPL0 may store to them while CR0.WP is clear.
pub fn wp(task: &mut Task, work: Gva, check: &mut Check) {
    prepare(task, work, |_| PRESENT | USER);
    for _ in 0..task.rounds {
        load_all(task, (work, 0..task.pages), check, |_| None);
        for on in [true, false] {
            cpu::toggle_cr0(WRITE_PROTECT, on);
            for page in 0..task.pages {
                let stored = try_store(work.add_pages(page), value(page, task.seed));
                check.access(page, stored, on.then_some(PRESENT | STORE));
            }
        }
        cpu::toggle_cr0(WRITE_PROTECT, true);
    }
}

/// Bit 63 forbids execution while EFER.NXE is set, and is reserved while it is clear. KVM keeps the
/// shadow of a page when EFER.NXE changes (`kvm_init_shadow_mmu` has it set in every role), so each
/// round has pages of its own: what was mapped while it was set stays usable after that.
pub fn nx(task: &mut Task, work: Gva, check: &mut Check) {
    let no_execute = |page| if is_even(page) { NO_EXECUTE } else { 0 };
    prepare(task, work, |page| PRESENT | WRITABLE | no_execute(page));
    let first = |round| round * task.pages / task.rounds;
    for round in 0..task.rounds {
        let pages = first(round)..first(round + 1);
        cpu::toggle_efer(NO_EXECUTE_ENABLE, false);
        let reserved = |page| is_even(page).then_some(PRESENT | RESERVED);
        load_all(task, (work, pages.clone()), check, reserved);
        cpu::toggle_efer(NO_EXECUTE_ENABLE, true);
        load_all(task, (work, pages.clone()), check, |_| None);
        let refused = |page| is_even(page).then_some(PRESENT | FETCH);
        call_all((work, pages), check, refused);
    }
}

/// CPL0 may not run code in pages of CPL3 while CR4.SMEP is set.
pub fn smep(task: &mut Task, work: Gva, check: &mut Check) {
    let user = |page| if is_even(page) { USER } else { 0 };
    prepare(task, work, |page| PRESENT | WRITABLE | user(page));
    for _ in 0..task.rounds {
        for on in [false, true] {
            cpu::toggle_cr4(NO_USER_EXECUTION, on);
            load_all(task, (work, 0..task.pages), check, |_| None);
            let refused = |page| (on && is_even(page)).then_some(PRESENT | FETCH);
            call_all((work, 0..task.pages), check, refused);
        }
        cpu::toggle_cr4(NO_USER_EXECUTION, false);
    }
}

/// CPL0 may not use pages of CPL3 while CR4.SMAP is set and EFLAGS.AC is clear.
pub fn smap(task: &mut Task, work: Gva, check: &mut Check) {
    let user = |page| if is_even(page) { USER } else { 0 };
    prepare(task, work, |page| PRESENT | WRITABLE | user(page));
    for _ in 0..task.rounds {
        load_all(task, (work, 0..task.pages), check, |_| None);
        cpu::toggle_cr4(NO_USER_ACCESS, true);
        load_all(task, (work, 0..task.pages), check, |page| {
            is_even(page).then_some(PRESENT)
        });
        cpu::allow_user_access(true);
        load_all(task, (work, 0..task.pages), check, |_| None);
        cpu::allow_user_access(false);
        cpu::toggle_cr4(NO_USER_ACCESS, false);
    }
}
