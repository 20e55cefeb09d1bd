//! Reading the kernel's structs at offsets that user space resolved from BTF.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use events::{Config, Hpa, Offset};

/// Overridden at load. Read-only and frozen, so the verifier sees constants.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config = Config::EMPTY;

/// An offset that user space resolved, e.g. `offset!(sp_spt)`.
macro_rules! offset {
    ($field:ident) => {
        crate::kernel::constant(&crate::kernel::CONFIG.offsets.$field)
    };
}
pub(crate) use offset;

/// Anything else that user space resolved, e.g. `config!(walk_bits)`.
macro_rules! config {
    ($field:ident) => {
        crate::kernel::constant(&crate::kernel::CONFIG.$field)
    };
}
pub(crate) use config;

/// The value that the loader wrote over `value`.
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

/// Reads kernel memory at `address`; a bad address is an error, not a crash.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Reads a field of the kernel struct at `base`; nothing where this kernel has no such field.
#[inline(always)]
pub fn field<T>(base: u64, offset: Offset) -> Option<T> {
    read(offset.of(base)?)
}

/// Part of a kernel struct, read at once: a read of 64 bytes costs as much as a read of 8.
#[repr(C, align(8))]
pub struct Window<const N: usize> {
    bytes: [u8; N],
    base: u64,
    start: u32,
}

impl<const N: usize> Window<N> {
    /// Reads `N` bytes of the struct at `base`, from the word that holds the field at `offset`.
    #[inline(always)]
    pub fn read(base: u64, offset: Offset) -> Option<Self> {
        let start = offset.bytes()? & !7;
        Some(Self {
            bytes: read(base + u64::from(start))?,
            base,
            start,
        })
    }

    /// The field at `offset` of the struct. One that is not in these bytes is read
    /// separately.
    #[inline(always)]
    pub fn get<T: Copy>(&self, offset: Offset) -> Option<T> {
        let within = offset.bytes()?.wrapping_sub(self.start) as usize;
        if within > N - size_of::<T>() {
            return field(self.base, offset);
        }
        // SAFETY: within the bytes, which are aligned like the struct's words, as its fields are.
        Some(unsafe { self.bytes.as_ptr().add(within).cast::<T>().read() })
    }
}

/// Physical address of a page that the kernel sees at `address`, in its direct map.
#[inline(always)]
pub fn physical(address: u64) -> Hpa {
    Hpa(address.wrapping_sub(page_offset()))
}

/// Where the kernel sees a physical address: in its direct map.
#[inline(always)]
pub fn direct_map(physical: Hpa) -> u64 {
    physical.0.wrapping_add(page_offset())
}

#[inline(always)]
fn page_offset() -> u64 {
    let [low, high] = config!(page_offset);
    u64::from(high) << 32 | u64::from(low)
}

/// Whether a role word is that of a direct page, which shadows no table.
#[inline(always)]
pub fn role_is_direct(role: u32) -> bool {
    (role >> (config!(role_direct_shift) & 31)) & 1 != 0
}

/// Whether a role word is that of a page that was zapped before, as a root in use.
#[inline(always)]
pub fn role_is_invalid(role: u32) -> bool {
    (role >> (config!(role_invalid_shift) & 31)) & 1 != 0
}

/// The level in a role word.
#[inline(always)]
pub fn role_level(role: u32) -> u8 {
    ((role >> (config!(role_level_shift) & 31)) & ((1 << (config!(role_level_width) & 7)) - 1))
        as u8
}
