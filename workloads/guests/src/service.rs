//! The guest kernel's services for CPL3, asked for by `ud2` as calls to the VMM are.
//!
//! CPL3 keeps the page tables' books, for there an instruction costs nothing; the kernel
//! does what only CPL0 can, with as few instructions as that takes.

use abi::{BootInfo, Gpa, Gva, PAGE_BYTES};
use core::arch::asm;

use crate::cpu;

/// Upper half of RAX where CPL3 wants a service; the lower half is its number.
pub const MAGIC: u64 = 0x5348_534b_0000_0000;

/// Stores to an entry: its address, the value.
const STORE: u32 = 1;
/// Stores to an entry and forgets a translation: the entry's address, the value, the page.
const STORE_AND_INVALIDATE: u32 = 2;
/// Copies entries: to, from, how many.
const COPY: u32 = 3;
/// Forgets translations: the first page, how many.
const INVALIDATE: u32 = 4;
/// Loads CR3: the root.
const LOAD_ROOT: u32 = 5;

/// At CPL0: does what service `number` is for. Whether there is such a service.
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
        // SAFETY: every root made by `Space` shares what the boot tables map.
        LOAD_ROOT => unsafe { cpu::load_root(a) },
        _ => return false,
    }
    true
}

#[inline(always)]
fn store_at(at: u64, value: u64) {
    let entry = core::ptr::with_exposed_provenance_mut::<u64>(at as usize);
    // SAFETY: CPL3 names entries of page tables only; those are identity-mapped for CPL0
    // and belong to no Rust object. A stray address faults and is reported.
    unsafe { entry.write_volatile(value) };
}

fn copy_at(to: u64, from: u64, count: u64) {
    let from = core::ptr::with_exposed_provenance::<u64>(from as usize);
    for index in 0..count {
        // SAFETY: `from` is a buffer of CPL3's, which waits, with room for `count` words.
        let value = unsafe { from.add(index as usize).read() };
        store_at(to + 8 * index, value);
    }
}

/// Stores `value` to the entry at `entry`.
pub fn store(entry: Gpa, value: u64) {
    ask(STORE, entry.0, value, 0);
}

/// Stores `value` to the entry at `entry`, then INVLPG of `gva` on this CPU.
pub fn store_and_invalidate(entry: Gpa, value: u64, gva: Gva) {
    ask(STORE_AND_INVALIDATE, entry.0, value, gva.0);
}

/// Stores `values` to the entries from `entry` on, in one table.
pub fn copy(entry: Gpa, values: &[u64]) {
    ask(
        COPY,
        entry.0,
        values.as_ptr().addr() as u64,
        values.len() as u64,
    );
}

/// INVLPG of `pages` pages from `gva` on, on this CPU.
pub fn invalidate(gva: Gva, pages: u64) {
    ask(INVALIDATE, gva.0, pages, 0);
}

/// Loads CR3 on this CPU.
pub fn load_root(root: Gpa) {
    ask(LOAD_ROOT, root.0, 0, 0);
}

fn ask(service: u32, a: u64, b: u64, c: u64) {
    // SAFETY: the kernel's #UD handler returns behind the `ud2` and restores every register;
    // it reads and changes memory.
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

/// Whether the guest of `info` keeps its page tables at CPL3 and sees them there.
pub fn keeps_tables(info: &BootInfo) -> bool {
    use abi::WorkloadId::{Crash, Demand, Linear};
    ![Linear, Demand, Crash]
        .map(abi::WorkloadId::number)
        .contains(&info.workload)
}
