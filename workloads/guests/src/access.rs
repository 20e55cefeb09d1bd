//! Accesses to addresses that the page tables may refuse: of CPL3, and of CPL0 in `modes`.
//!
//! A refused access does not end the run: the kernel's #PF handler resumes at the end of the
//! function that made it, and the function returns the error code. CPL3 then does what a kernel
//! would do. Each access is one `mov` of eight bytes, so a host without memory there can emulate
//! it.

use abi::{Gva, MAX_VCPUS};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::cpu;
use crate::touches::timed;

/// A guest page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The error code.
    pub error_code: u64,
}

impl Refused {
    /// Whether the entry was present, so that a permission was missing.
    pub fn is_present(self) -> bool {
        self.error_code & 1 == 1
    }
}

/// The return value, in RAX and RDX.
#[repr(C)]
struct Answer {
    value: u64,
    /// [`REFUSED`] and the error code, or 0.
    refused: u64,
}

/// The #PF handler sets this bit in RDX, together with the error code.
pub const REFUSED: u64 = 1 << 63;

unsafe extern "C" {
    fn guarded_load(address: u64) -> Answer;
    fn guarded_store(address: u64, value: u64) -> Answer;
    fn guarded_call(address: u64) -> Answer;
    /// Where CPL3 resumes after a refused load or store.
    fn guarded_refused();
    /// Where CPL3 resumes after a refused call.
    fn guarded_call_refused();
}

global_asm!(
    ".globl guarded_load, guarded_store, guarded_call, guarded_refused, guarded_call_refused",
    ".balign 16",
    "guarded_load:",
    "mov rax, [rdi]",
    "xor edx, edx",
    "ret",
    ".balign 16",
    "guarded_store:",
    "mov [rdi], rsi",
    "xor edx, edx",
    "guarded_refused:",
    "ret",
    ".balign 16",
    "guarded_call:",
    "sub rsp, 8",
    "call rdi",
    "xor edx, edx",
    "guarded_call_refused:",
    "add rsp, 8",
    "ret",
);

/// Accesses of each CPU that were refused.
static REFUSALS: [AtomicU64; MAX_VCPUS as usize] =
    [const { AtomicU64::new(0) }; MAX_VCPUS as usize];

/// Counts a refusal on this CPU; called by the #PF handler.
#[inline(always)]
pub fn count_refusal() {
    let refusals = &REFUSALS[usize::from(cpu::number())];
    // No other CPU stores here.
    refusals.store(refusals.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// The number of refusals on this CPU so far.
pub fn refusals() -> u64 {
    REFUSALS[usize::from(cpu::number())].load(Ordering::Relaxed)
}

/// Where to resume after a page fault at `rip`, if a load or store of this module made it.
#[inline(always)]
pub fn after_refusal(rip: u64) -> Option<u64> {
    let known = rip == address(guarded_load as unsafe extern "C" fn(u64) -> Answer as *const ())
        || rip == address(guarded_store as unsafe extern "C" fn(u64, u64) -> Answer as *const ());
    known.then(|| address(guarded_refused as unsafe extern "C" fn() as *const ()))
}

/// Where to resume after a call whose target cannot be fetched.
#[inline(always)]
pub fn after_refused_call() -> u64 {
    address(guarded_call_refused as unsafe extern "C" fn() as *const ())
}

#[inline(always)]
fn address(function: *const ()) -> u64 {
    function.addr() as u64
}

fn answer(answer: &Answer) -> Result<u64, Refused> {
    if answer.refused == 0 {
        return Ok(answer.value);
    }
    Err(Refused {
        error_code: answer.refused & !REFUSED,
    })
}

/// Loads eight bytes.
pub fn try_load(gva: Gva) -> Result<u64, Refused> {
    // SAFETY: no Rust object is in the ranges that callers use.
    answer(&timed(gva, || unsafe { guarded_load(gva.0) }))
}

/// Stores eight bytes.
pub fn try_store(gva: Gva, value: u64) -> Result<(), Refused> {
    // SAFETY: as in `try_load`.
    answer(&timed(gva, || unsafe { guarded_store(gva.0, value) })).map(|_| ())
}

/// Calls the code at `gva`: a single `ret`.
pub fn try_call(gva: Gva) -> Result<(), Refused> {
    // SAFETY: the code there returns at once and changes no register.
    answer(&timed(gva, || unsafe { guarded_call(gva.0) })).map(|_| ())
}

/// Loads eight bytes; a fault ends the run.
pub fn load(gva: Gva) -> u64 {
    let at = core::ptr::with_exposed_provenance::<u64>(gva.0 as usize);
    // SAFETY: as in `try_load`; the kernel reports a fault.
    timed(gva, || unsafe { at.read_volatile() })
}

/// Stores eight bytes; a fault ends the run.
pub fn store(gva: Gva, value: u64) {
    let at = core::ptr::with_exposed_provenance_mut::<u64>(gva.0 as usize);
    // SAFETY: as in `load`.
    timed(gva, || unsafe { at.write_volatile(value) });
}
