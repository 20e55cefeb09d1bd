//! A VM with its page tables, and the program that its vCPUs run.

use std::{
    ffi::c_void,
    os::fd::{AsRawFd as _, RawFd},
    ptr::NonNull,
    time::Duration,
};

use anyhow::Context as _;
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous},
};

/// The port that ends a round.
pub const PORT: u16 = 0x10;

const PAGE: u64 = 4096;
/// Guest-virtual and guest-physical address of the program.
const CODE: u64 = 0x1000;
/// Guest-virtual and guest-physical address of the TSS, whose I/O bitmap allows every port:
/// KVM-PVM does not keep the IOPL.
const TSS: u64 = 0x2000;
/// Bytes of a TSS before its I/O bitmap.
const TSS_BYTES: u64 = 104;
/// Guest-physical address of the tables; the pages that are touched follow them.
const TABLES: u64 = 0x3000;

/// `rsi` pages from `rax` on, then the port, for ever.
#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0x48, 0x89, 0xf1,                   // 0:  mov rcx, rsi
    0x48, 0xff, 0x00,                   // 3:  inc qword [rax]
    0x48, 0x05, 0x00, 0x10, 0x00, 0x00, // 6:  add rax, 4096
    0x48, 0xff, 0xc9,                   // 12: dec rcx
    0x75, 0xf2,                         // 15: jnz 3
    0xe6, PORT as u8,                   // 17: out PORT, al
    0xeb, 0xeb,                         // 19: jmp 0
];

/// Where the program has the distance between two pages.
const STEP: usize = 8;

/// Present, writable, for CPL 3.
const ENTRY: u64 = 0b111;

/// What a vCPU does.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub start: u64,
    pub rounds: u64,
    pub chunk: u64,
    pub pause: Duration,
    pub move_after: u64,
    pub discard: Option<Memory>,
    pub refuse: u64,
    /// Call KVM_RUN as a 32-bit program does.
    pub ia32: bool,
    pub last_page: usize,
    pub moves: Option<Slot>,
}

/// The memslot, whose memory this process has twice.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    vm: RawFd,
    bytes: u64,
    hvas: [u64; 2],
}

impl Slot {
    /// Deletes it, and makes it again over the other mapping of the same memory.
    pub fn set(self, which: usize) -> anyhow::Result<()> {
        /// `KVM_SET_USER_MEMORY_REGION`.
        const SET: libc::c_ulong = 0x4020_ae46;
        for memory_size in [0, self.bytes] {
            let region = kvm_userspace_memory_region {
                memory_size,
                userspace_addr: self.hvas[which],
                ..kvm_userspace_memory_region::default()
            };
            // SAFETY: the VM's descriptor stays open, and both mappings are never unmapped.
            let set = unsafe { libc::ioctl(self.vm, SET, &region) };
            anyhow::ensure!(set == 0, "memslot: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }
}

/// The memory that one vCPU touches, in this process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    address: usize,
    bytes: usize,
}

impl Memory {
    /// Its pages are zero again, and not there.
    pub fn discard(self) -> anyhow::Result<()> {
        let address = std::ptr::without_provenance_mut(self.address);
        // SAFETY: a part of the guest's memory that only its vCPU uses, by volatile accesses.
        unsafe { madvise(address, self.bytes, Advice::LinuxDontNeed) }.context("madvise")
    }
}

impl Work {
    /// The first instruction at CPL 3, with the right to use ports.
    pub fn enter(&self, vcpu: &VcpuFd) -> anyhow::Result<()> {
        const IOPL_3: u64 = 3 << 12;
        vcpu.set_regs(&kvm_regs {
            rip: CODE,
            rflags: 2 | IOPL_3,
            rax: self.start,
            rsi: self.chunk,
            ..kvm_regs::default()
        })
        .context("KVM_SET_REGS")
    }

    /// From the first page again.
    pub fn again(&self, vcpu: &VcpuFd) -> anyhow::Result<()> {
        let mut regs = vcpu.get_regs().context("KVM_GET_REGS")?;
        regs.rax = self.start;
        vcpu.set_regs(&regs).context("KVM_SET_REGS")
    }
}

/// What a VM's memory has.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub vcpus: u64,
    /// That each vCPU touches.
    pub pages: u64,
    /// The process has the memory twice.
    pub twice: bool,
    /// A page's leaf table maps no other.
    pub apart: bool,
}

impl Layout {
    /// From one page to the next.
    fn step(self) -> u64 {
        match self.apart {
            true => 512 * PAGE,
            false => PAGE,
        }
    }

    fn tables(self) -> u64 {
        let leaf_tables = match self.apart {
            true => self.pages + self.pages.div_ceil(512),
            false => self.pages.div_ceil(512),
        };
        1 + 4 * self.vcpus + self.vcpus * leaf_tables + 4
    }

    /// Pages of memory that nobody touches: KVM allows a shadow page for each 50 pages of memory.
    fn spare(self) -> u64 {
        match self.apart {
            true => 50 * self.vcpus * self.tables(),
            false => 0,
        }
    }
}

/// A VM.
pub struct Guest {
    number: u64,
    vm: VmFd,
    memory: NonNull<u64>,
    /// The same memory once more.
    again: Option<u64>,
    /// Guest-physical address of the first page that is touched.
    data: u64,
    bytes: u64,
    /// Guest-physical address of the next free table.
    next: u64,
}

impl Guest {
    /// With memory and tables for the ranges of all its vCPUs.
    pub fn new(kvm: &Kvm, number: u64, layout: Layout) -> anyhow::Result<Self> {
        let Layout { vcpus, pages, .. } = layout;
        let vm = kvm.create_vm().context("KVM_CREATE_VM")?;
        // KVM on Intel needs a separate address; KVM on AMD ignores it.
        vm.set_tss_address(0xfffb_d000)
            .context("KVM_SET_TSS_ADDR")?;
        let data = TABLES + layout.tables() * PAGE;
        let bytes = data + vcpus * pages * PAGE;
        let slot_bytes = bytes + layout.spare() * PAGE;
        let (memory, again) = match layout.twice {
            true => shared_memory(slot_bytes)?,
            false => (own_memory(slot_bytes)?, None),
        };
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: slot_bytes,
            userspace_addr: memory as u64,
        };
        // SAFETY: mapped, and never unmapped.
        unsafe { vm.set_user_memory_region(region) }.context("KVM_SET_USER_MEMORY_REGION")?;
        let mut guest = Self {
            number,
            vm,
            memory: NonNull::new(memory.cast()).context("mmap gave nothing")?,
            again,
            data,
            bytes,
            next: TABLES + PAGE,
        };
        let mut program = [0; 24];
        program[..PROGRAM.len()].copy_from_slice(PROGRAM);
        program[STEP..STEP + 4].copy_from_slice(&(layout.step() as u32).to_le_bytes());
        for (word, bytes) in (0..).zip(program.chunks_exact(8)) {
            let bytes = bytes.try_into().context("eight bytes")?;
            guest.write(CODE + 8 * word, u64::from_le_bytes(bytes));
        }
        guest.map(CODE, CODE);
        // The last two bytes say where the bitmap is.
        guest.write(TSS + TSS_BYTES - 8, TSS_BYTES << 48);
        guest.map(TSS, TSS);
        for vcpu in 0..vcpus {
            for page in 0..pages {
                let gpa = data + (vcpu * pages + page) * PAGE;
                guest.map(guest.range(vcpu) + page * layout.step(), gpa);
            }
        }
        Ok(guest)
    }

    /// The last page of its memory in this process: the last vCPU touches it last.
    pub fn last_page(&self) -> usize {
        self.memory.as_ptr().expose_provenance() + (self.bytes - PAGE) as usize
    }

    /// The memslot, where it has its memory twice.
    pub fn slot(&self) -> Option<Slot> {
        let again = self.again?;
        Some(Slot {
            vm: self.vm.as_raw_fd(),
            bytes: self.bytes,
            hvas: [self.memory.as_ptr().addr() as u64, again],
        })
    }

    /// Where a vCPU's range begins.
    pub fn range(&self, vcpu: u64) -> u64 {
        (self.number + 1) << 39 | vcpu << 30
    }

    /// The pages that a vCPU touches.
    pub fn memory_of(&self, vcpu: u64, pages: u64) -> Memory {
        let bytes = pages * PAGE;
        Memory {
            address: self.memory.as_ptr().addr() + (self.data + vcpu * bytes) as usize,
            bytes: bytes as usize,
        }
    }

    /// A vCPU in long mode at CPL 3.
    pub fn vcpu(&self, kvm: &Kvm, id: u64) -> anyhow::Result<VcpuFd> {
        let vcpu = self.vm.create_vcpu(id).context("KVM_CREATE_VCPU")?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .context("KVM_GET_SUPPORTED_CPUID")?;
        vcpu.set_cpuid2(&cpuid).context("KVM_SET_CPUID2")?;
        let mut sregs = vcpu.get_sregs().context("KVM_GET_SREGS")?;
        let segment = kvm_segment {
            limit: u32::MAX,
            selector: 0x23,
            type_: 3,
            present: 1,
            dpl: 3,
            s: 1,
            g: 1,
            db: 1,
            ..kvm_segment::default()
        };
        sregs.cs = kvm_segment {
            selector: 0x1b,
            type_: 11,
            db: 0,
            l: 1,
            ..segment
        };
        (sregs.ds, sregs.es, sregs.fs) = (segment, segment, segment);
        (sregs.gs, sregs.ss) = (segment, segment);
        sregs.tr = kvm_segment {
            base: TSS,
            limit: PAGE as u32 - 1,
            type_: 11,
            present: 1,
            ..kvm_segment::default()
        };
        const PE: u64 = 1;
        const NE: u64 = 1 << 5;
        const WP: u64 = 1 << 16;
        const PG: u64 = 1 << 31;
        const PAE: u64 = 1 << 5;
        const LME: u64 = 1 << 8;
        const LMA: u64 = 1 << 10;
        sregs.cr0 = PE | NE | WP | PG;
        sregs.cr3 = TABLES;
        sregs.cr4 = PAE;
        sregs.efer = LME | LMA;
        vcpu.set_sregs(&sregs).context("KVM_SET_SREGS")?;
        Ok(vcpu)
    }

    /// Enters a page into the tables, which all vCPUs share.
    fn map(&mut self, gva: u64, gpa: u64) {
        let mut table = TABLES;
        for level in [4, 3, 2] {
            let place = table + 8 * index(gva, level);
            if self.read(place) == 0 {
                self.write(place, self.next | ENTRY);
                self.next += PAGE;
            }
            table = self.read(place) & !0xfff;
        }
        self.write(table + 8 * index(gva, 1), gpa | ENTRY);
    }

    fn read(&self, gpa: u64) -> u64 {
        // SAFETY: within the memory, of which tables and program are the beginning.
        unsafe { self.memory.as_ptr().byte_add(gpa as usize).read_volatile() }
    }

    fn write(&mut self, gpa: u64, value: u64) {
        // SAFETY: as above.
        unsafe {
            self.memory
                .as_ptr()
                .byte_add(gpa as usize)
                .write_volatile(value);
        }
    }
}

fn own_memory(bytes: u64) -> anyhow::Result<*mut c_void> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: new memory at an address of the kernel's choice.
    unsafe { mmap_anonymous(std::ptr::null_mut(), bytes as usize, access, flags) }.context("mmap")
}

/// Memory that is mapped at two addresses.
fn shared_memory(bytes: u64) -> anyhow::Result<(*mut c_void, Option<u64>)> {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).context("memfd_create")?;
    ftruncate(&file, bytes).context("ftruncate")?;
    let map = || {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at an address of the kernel's choice.
        unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes as usize,
                access,
                MapFlags::SHARED,
                &file,
                0,
            )
        }
        .context("mmap")
    };
    Ok((map()?, Some(map()?.addr() as u64)))
}

fn index(gva: u64, level: u64) -> u64 {
    gva >> (12 + 9 * (level - 1)) & 0x1ff
}
