//! `smm`: system management mode, which the VMM makes the CPU enter.

use abi::layout::FRAME_VIEW;
use abi::{Call, Gpa, Gva, Phase};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering};

use super::Task;
use super::switch::{self, Mode};
use super::tree::Format;
use crate::check::Check;
use crate::paging::{PRESENT, WRITABLE};
use crate::{access, call};

/// Where the CPU begins: 32 KiB past the reset value of SMBASE. It saves its registers at the end of
/// the 64 KiB from SMBASE on. No CPU of this guest has its area there.
const HANDLER: Gpa = Gpa(0x3_8000);

/// What the handler does: stores to so many pages.
#[unsafe(no_mangle)]
static MODES_SMM_FROM: AtomicU32 = AtomicU32::new(0);
#[unsafe(no_mangle)]
static MODES_SMM_VALUE: AtomicU32 = AtomicU32::new(0);
#[unsafe(no_mangle)]
static MODES_SMM_COUNT: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    /// The handler in the image, of 16-bit code that runs anywhere.
    static modes_smm: u8;
    static modes_smm_end: u8;
}

// CS is SMBASE / 16; the other segments begin at 0 and have no limit.
global_asm!(
    ".code16",
    "modes_smm:",
    "movl $MODES_SMM_FROM, %edi; movl (%edi), %edi",
    "movl $MODES_SMM_VALUE, %ecx; movl (%ecx), %ecx",
    "movl $MODES_SMM_COUNT, %ebp; movl %ds:(%ebp), %ebp",
    "2: movl %ecx, (%edi)",
    "addl $4096, %edi; incl %ecx; decl %ebp; jnz 2b",
    "rsm",
    "modes_smm_end:",
    ".code64",
    options(att_syntax),
);

/// In each round: into the mode, whose handler stores to all pages, and back.
pub fn run(task: &mut Task, work: Gva, check: &mut Check) {
    let tree = task.tree(Format::LONG);
    for page in 0..task.pages {
        let view = FRAME_VIEW.add_pages(page);
        tree.map(view, task.frame(page), PRESENT | WRITABLE, task);
    }
    switch::change(Mode::now().four_levels(tree.root.0));
    copy_handler();
    MODES_SMM_FROM.store(work.0 as u32, Ordering::Relaxed);
    MODES_SMM_COUNT.store(task.pages as u32, Ordering::Relaxed);
    for round in 0..task.rounds {
        if round == 0 {
            call::mark(Phase::Touch);
        }
        let value = (task.seed + round * task.pages) as u32;
        MODES_SMM_VALUE.store(value, Ordering::SeqCst);
        call::send(Call::Smi.number());
        if round + 1 == task.rounds {
            call::mark(Phase::Check);
        }
        for page in 0..task.pages {
            let held = u64::from(value.wrapping_add(page as u32));
            check.value(page, access::load(FRAME_VIEW.add_pages(page)), held);
        }
    }
}

fn copy_handler() {
    let (from, end) = (&raw const modes_smm, &raw const modes_smm_end);
    let to = core::ptr::with_exposed_provenance_mut::<u8>(HANDLER.0 as usize);
    // SAFETY: the labels are the ends of the handler; the frame is identity-mapped, writable and
    // belongs to nothing else.
    unsafe { core::ptr::copy_nonoverlapping(from, to, end.addr() - from.addr()) };
}
