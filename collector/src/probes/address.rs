//! Where the kernel's direct map begins.
//!
//! Shadow roots and upper SPTEs hold physical addresses; the probes need kernel addresses. The
//! difference, `page_offset_base`, is not an exported symbol. But for the page of `kvm_vcpu.run`
//! both are known: the kernel address from the struct, the physical one from a mapping of it here.

use std::{
    fs::File,
    io,
    os::{fd::BorrowedFd, unix::fs::FileExt},
    ptr::NonNull,
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const PAGE: usize = 4096;
/// Bit 63 of a pagemap entry: present. Bits 54:0: frame, zero without CAP_SYS_ADMIN.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;
/// The direct map starts at a multiple of 1 GiB, with or without KASLR.
const ALIGNMENT: u64 = 1 << 30;

/// The physical address of the `kvm_run` page of a vCPU's file descriptor.
pub(super) fn run_page(vcpu: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: a new shared mapping of one page at an address of the kernel's choice.
    let page = unsafe {
        mmap(
            std::ptr::null_mut(),
            PAGE,
            ProtFlags::READ,
            MapFlags::SHARED,
            vcpu,
            0,
        )
    }?;
    let physical = touch(page).and_then(|()| frame(page));
    // SAFETY: the page mapped above, which nothing else knows.
    unsafe { munmap(page, PAGE) }?;
    Ok(physical? * PAGE as u64)
}

/// Makes the page present.
fn touch(page: *mut std::ffi::c_void) -> io::Result<()> {
    let page = NonNull::new(page).ok_or(io::ErrorKind::InvalidData)?;
    // SAFETY: mapped and readable.
    let _ = unsafe { page.cast::<u8>().as_ptr().read_volatile() };
    Ok(())
}

fn frame(page: *mut std::ffi::c_void) -> io::Result<u64> {
    let mut entry = [0; 8];
    let number = page as u64 / PAGE as u64;
    File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, number * 8)?;
    let entry = u64::from_le_bytes(entry);
    match entry & FRAME {
        frame if entry & PRESENT != 0 && frame != 0 => Ok(frame),
        _ => Err(io::Error::other(
            "/proc/self/pagemap hides the frame (needs CAP_SYS_ADMIN)",
        )),
    }
}

/// The start of the direct map, if `virtual_address` and `physical` can be the same page.
pub(super) fn direct_map(virtual_address: u64, physical: u64) -> Option<u64> {
    let start = virtual_address.checked_sub(physical)?;
    (start % ALIGNMENT == 0 && start >> 63 == 1).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::direct_map;

    #[test]
    fn only_a_canonical_aligned_start_is_taken() {
        assert_eq!(
            direct_map(0xffff_8881_2345_6000, 0x1_2345_6000),
            Some(0xffff_8880_0000_0000)
        );
        assert_eq!(direct_map(0xffff_8881_2345_6000, 0x1_2345_5000), None);
        assert_eq!(direct_map(0x1_2345_6000, 0x2345_6000), None);
        assert_eq!(direct_map(0, 1), None);
    }
}
