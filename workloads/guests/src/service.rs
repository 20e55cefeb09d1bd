//! The guest kernel's services for CPL3, requested with `ud2`, like calls to the VMM.
//!
//! CPL3 decides what the page tables hold, since its instructions run natively. The kernel only
//! does what needs CPL0, in few instructions.

use abi::{BootInfo, Gpa, Gva, PAGE_BYTES};
use core::arch::asm;

use crate::{cpu, micro};

/// Upper half of RAX in a request; the lower half is the number of the service.
pub const MAGIC: u64 = 0x5348_534b_0000_0000;

/// Stores to an entry: its address, the value.
const STORE: u32 = 1;
/// Stores to an entry, then INVLPG: the entry's address, the value, the page.
const STORE_AND_INVALIDATE: u32 = 2;
/// Copies entries: destination, source, count.
const COPY: u32 = 3;
/// INVLPG of pages: the first page, count.
const INVALIDATE: u32 = 4;
/// Loads CR3: the root.
const LOAD_ROOT: u32 = 5;

/// Repeats an instruction of `micro`: which, how often, where to store the answer.
const REPEAT: u32 = 6;

/// Runs service `number` at CPL0; false if there is no such service.
#[inline(always)]
pub fn serve(number: u32, a: u64, b: u64, c: u64) -> bool {
    match number {
        STORE => store_at(a, b),
        STORE_AND_INVALIDATE => {
            store_at(a, b);
            cpu::invalidate(c);
        }
        COPY => copy_at(a, b, c),
        INVALIDATE => {
            for page in 0..b {
                cpu::invalidate(a + page * PAGE_BYTES);
            }
        }
        // SAFETY: every root of a `Space` maps what the boot tables map.
        LOAD_ROOT => unsafe { cpu::load_root(a) },
        REPEAT => store_at(c, micro::repeat_at_cpl0(a, b)),
        _ => return false,
    }
    true
}

#[inline(always)]
fn store_at(at: u64, value: u64) {
    let entry = core::ptr::with_exposed_provenance_mut::<u64>(at as usize);
    // SAFETY: CPL3 passes the address of a page-table entry, which is identity-mapped for CPL0 and
    // belongs to no Rust object, or of a variable of its own that it exposed and that nothing else
    // uses meanwhile. A wrong address faults and is reported.
    unsafe { entry.write_volatile(value) };
}

fn copy_at(to: u64, from: u64, count: u64) {
    let from = core::ptr::with_exposed_provenance::<u64>(from as usize);
    for index in 0..count {
        // SAFETY: `from` is a buffer of CPL3 with `count` words, and CPL3 waits.
        let value = unsafe { from.add(index as usize).read() };
        store_at(to + 8 * index, value);
    }
}

/// Stores `value` to the entry at `entry`.
pub fn store(entry: Gpa, value: u64) {
    request(STORE, entry.0, value, 0);
}

/// Stores `value` to the entry at `entry`, then INVLPG of `gva` on this CPU.
pub fn store_and_invalidate(entry: Gpa, value: u64, gva: Gva) {
    request(STORE_AND_INVALIDATE, entry.0, value, gva.0);
}

/// Stores `values` to the entries from `entry` on, in one table.
pub fn copy(entry: Gpa, values: &[u64]) {
    request(
        COPY,
        entry.0,
        values.as_ptr().addr() as u64,
        values.len() as u64,
    );
}

/// INVLPG of `pages` pages from `gva` on, on this CPU.
pub fn invalidate(gva: Gva, pages: u64) {
    request(INVALIDATE, gva.0, pages, 0);
}

/// Loads CR3 on this CPU.
pub fn load_root(root: Gpa) {
    request(LOAD_ROOT, root.0, 0, 0);
}

/// Runs [`micro::repeat_at_cpl0`] at CPL0.
pub fn repeat(which: u64, count: u64) -> u64 {
    let mut answer = 0;
    request(REPEAT, which, count, (&raw mut answer).addr() as u64);
    // SAFETY: `answer` lives; the kernel has stored to it meanwhile.
    unsafe { (&raw const answer).read_volatile() }
}

fn request(service: u32, a: u64, b: u64, c: u64) {
    // SAFETY: the kernel's #UD handler returns after the `ud2` and restores every register; it
    // reads and changes memory.
    unsafe {
        asm!(
            "ud2",
            in("rax") MAGIC | u64::from(service),
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            options(nostack)
        )
    };
}

/// Whether the guest of `info` changes its page tables from CPL3, in a view of them.
pub fn changes_tables_at_cpl3(info: &BootInfo) -> bool {
    use abi::WorkloadId::{Crash, Demand, Linear};
    ![Linear, Demand, Crash]
        .map(abi::WorkloadId::number)
        .contains(&info.workload)
}
