//! Reading the kernel's structs at offsets that user space resolved from BTF.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use events::{Config, Hpa};

/// Overridden at load. Read-only and frozen, so the verifier sees constants.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config = Config {
    page_offset: 0,
    fault_addr: 0,
    fault_error_code: 0,
    fault_gfn: 0,
    fault_slot: 0,
    fault_pfn: 0,
    fault_goal_level: 0,
    sp_link: 0,
    sp_spt: 0,
    sp_gfn: 0,
    sp_role: 0,
    sp_unsync: 0,
    sp_root_count: 0,
    vcpu_cr3: 0,
    vcpu_rip: 0,
    vcpu_regs_avail: 0,
    vcpu_mmio_gva: 0,
    vcpu_mmio_gfn: 0,
    vcpu_mmu: 0,
    vcpu_run: 0,
    vcpu_pf_taken: 0,
    mmu_root_hpa: 0,
    mmu_root_role: 0,
    slot_base_gfn: 0,
    slot_userspace_addr: 0,
    slot_id: 0,
    kvm_active_mmu_pages: 0,
    task_files: 0,
    files_fdt: 0,
    fdt_fd: 0,
    file_private_data: 0,
    role_level_shift: 0,
    role_level_width: 0,
    walk_bits: 0,
    reserved: 0,
};

/// What user space resolved, e.g. `offset!(sp_spt)`.
macro_rules! offset {
    ($field:ident) => {
        crate::kernel::constant(&crate::kernel::CONFIG.$field)
    };
}
pub(crate) use offset;

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
    Hpa(address.wrapping_sub(offset!(page_offset)))
}

/// Physical address to the kernel's own.
#[inline(always)]
pub fn direct_map(physical: Hpa) -> u64 {
    physical.0.wrapping_add(offset!(page_offset))
}

/// The level in a role word.
#[inline(always)]
pub fn role_level(role: u32) -> u8 {
    ((role >> (offset!(role_level_shift) & 31)) & ((1 << (offset!(role_level_width) & 7)) - 1))
        as u8
}
