//! Reading the kernel's structs at offsets that user space resolved from BTF.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use events::{Config, Hpa};

/// Overridden at load. Read-only and frozen, so the verifier sees constants.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config = Config::EMPTY;

/// What user space resolved, e.g. `offset!(sp_spt)`.
macro_rules! offset {
    ($field:ident) => {
        crate::kernel::constant(&crate::kernel::CONFIG.offsets.$field)
    };
}
pub(crate) use offset;

/// The rest of what user space resolved, e.g. `config!(walk_bits)`.
macro_rules! config {
    ($field:ident) => {
        crate::kernel::constant(&crate::kernel::CONFIG.$field)
    };
}
pub(crate) use config;

/// What the loader put in the place of `value`.
#[inline(always)]
pub fn constant<T: Copy>(value: &T) -> T {
    // SAFETY: a reference is valid for reads; volatile, since the compiler knows only the zeros.
    unsafe { core::ptr::read_volatile(value) }
}

/// Now, `CLOCK_MONOTONIC` ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// Reads kernel memory at `base + offset`; a bad address is an error, not a crash.
#[inline(always)]
pub fn read<T>(base: u64, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.ok()
}

/// A stretch of a kernel struct, read at once: a read of 64 bytes costs what a read of 8 does.
#[repr(C, align(8))]
pub struct Window<const N: usize> {
    bytes: [u8; N],
    base: u64,
    start: u32,
}

impl<const N: usize> Window<N> {
    /// Reads the `N` bytes of the struct at `base` from the word that holds `offset` on.
    #[inline(always)]
    pub fn read(base: u64, offset: u32) -> Option<Self> {
        let start = offset & !7;
        Some(Self {
            bytes: read(base, start)?,
            base,
            start,
        })
    }

    /// The field at `offset` of the struct; one that lies outside is read by itself.
    #[inline(always)]
    pub fn get<T: Copy>(&self, offset: u32) -> Option<T> {
        let within = offset.wrapping_sub(self.start) as usize;
        if within > N - size_of::<T>() {
            return read(self.base, offset);
        }
        // SAFETY: within the bytes, which are aligned like the struct's words, as its fields are.
        Some(unsafe { self.bytes.as_ptr().add(within).cast::<T>().read() })
    }
}

/// Kernel address of a page in the direct map to its physical address.
#[inline(always)]
pub fn physical(address: u64) -> Hpa {
    Hpa(address.wrapping_sub(page_offset()))
}

/// Physical address to the kernel's own.
#[inline(always)]
pub fn direct_map(physical: Hpa) -> u64 {
    physical.0.wrapping_add(page_offset())
}

#[inline(always)]
fn page_offset() -> u64 {
    let [low, high] = config!(page_offset);
    u64::from(high) << 32 | u64::from(low)
}

/// Whether a role word is a direct page's, which shadows no table.
#[inline(always)]
pub fn role_is_direct(role: u32) -> bool {
    (role >> (config!(role_direct_shift) & 31)) & 1 != 0
}

/// The level in a role word.
#[inline(always)]
pub fn role_level(role: u32) -> u8 {
    ((role >> (config!(role_level_shift) & 31)) & ((1 << (config!(role_level_width) & 7)) - 1))
        as u8
}
