//! Accesses of CPL3 to addresses that its page tables may refuse.
//!
//! A refused access does not end the run: the kernel's #PF handler leads CPL3 to the end of
//! the function that made it, with the error code as its answer. What a kernel would do
//! about it is then up to CPL3. Each access is one `mov` of eight bytes, which a host that
//! has no memory there can emulate.

use abi::{Gva, MAX_VCPUS};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::cpu;

/// A page fault of the guest's own.
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

/// RAX and RDX.
#[repr(C)]
struct Answer {
    value: u64,
    /// [`REFUSED`] and the error code, or 0.
    refused: u64,
}

/// Set in RDX by the #PF handler, beside the error code.
pub const REFUSED: u64 = 1 << 63;

unsafe extern "C" {
    fn guarded_load(address: u64) -> Answer;
    fn guarded_store(address: u64, value: u64) -> Answer;
    fn guarded_call(address: u64) -> Answer;
    /// Where a refused load or store goes on.
    fn guarded_refused();
    /// Where a refused call goes on.
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

/// How many accesses of each CPU the #PF handler has led CPL3 on behind.
static REFUSALS: [AtomicU64; MAX_VCPUS as usize] =
    [const { AtomicU64::new(0) }; MAX_VCPUS as usize];

/// Counts a refusal on this CPU. In the #PF handler.
#[inline(always)]
pub fn count_refusal() {
    let refusals = &REFUSALS[usize::from(cpu::number())];
    // Nobody else stores here.
    refusals.store(refusals.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Refusals on this CPU so far.
pub fn refusals() -> u64 {
    REFUSALS[usize::from(cpu::number())].load(Ordering::Relaxed)
}

/// Where to go on after a page fault at `rip`, if it is a load's or a store's of this module.
#[inline(always)]
pub fn after_refusal(rip: u64) -> Option<u64> {
    let known = rip == address(guarded_load as unsafe extern "C" fn(u64) -> Answer as *const ())
        || rip == address(guarded_store as unsafe extern "C" fn(u64, u64) -> Answer as *const ());
    known.then(|| address(guarded_refused as unsafe extern "C" fn() as *const ()))
}

/// Where to go on after a call whose target cannot be fetched.
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
    // SAFETY: the caller's ranges belong to no Rust object.
    answer(&unsafe { guarded_load(gva.0) })
}

/// Stores eight bytes.
pub fn try_store(gva: Gva, value: u64) -> Result<(), Refused> {
    // SAFETY: as in `try_load`.
    answer(&unsafe { guarded_store(gva.0, value) }).map(|_| ())
}

/// Calls the code at `gva`: a single `ret`.
pub fn try_call(gva: Gva) -> Result<(), Refused> {
    // SAFETY: what stands there returns at once and changes no register.
    answer(&unsafe { guarded_call(gva.0) }).map(|_| ())
}

/// Loads eight bytes that must be there: a fault ends the run.
pub fn load(gva: Gva) -> u64 {
    let at = core::ptr::with_exposed_provenance::<u64>(gva.0 as usize);
    // SAFETY: as in `try_load`; the kernel reports a fault.
    unsafe { at.read_volatile() }
}

/// Stores eight bytes that must be there: a fault ends the run.
pub fn store(gva: Gva, value: u64) {
    let at = core::ptr::with_exposed_provenance_mut::<u64>(gva.0 as usize);
    // SAFETY: as in `load`.
    unsafe { at.write_volatile(value) };
}
