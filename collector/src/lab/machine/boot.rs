//! Starts a kernel in Bochs, which boots only from disks and ROMs. A boot loader that reads a
//! compressed kernel through the BIOS, and that kernel as it decompresses itself, take a minute. So
//! the host decompresses it and puts it on a disk with the initramfs; a ROM, which the BIOS runs
//! when it has set up the machine, reads that disk into memory and enters the kernel as a 64-bit
//! boot loader does (`Documentation/arch/x86/boot.rst`).

use std::{
    arch::global_asm,
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use crate::lab::vmlinux::Vmlinux;

/// Address of the ROM. It is that of the VGA's, the first one that the BIOS runs, and the machine
/// has no use for the VGA's.
const ROM: u32 = 0xc_0000;
/// Address of the page that the kernel is started with, and of what follows it here. Nothing else
/// is there when the kernel starts.
pub const BOOT: u32 = 0x80_0000;
/// What is in it: `struct boot_params`, the command line, the page tables, and what the ROM reads.
const COMMAND_LINE: usize = 0x1000;
const TABLES: usize = 0x2000;
const DIRECTORIES: usize = 4;
const ENTRY: usize = TABLES + 0x1000 * (2 + DIRECTORIES);
const FRESH: usize = ENTRY + 8;
const RANGES: usize = FRESH + 8;
/// Two ranges of the disk, each with its address (8 bytes), first sector and number of sectors (4
/// bytes each), and an empty one. All of it has to fit into 128 KiB, in which Bochs loads it whole.
const BOOT_BYTES: usize = RANGES + 3 * 16;
/// The word at `FRESH`. The ROM clears it: a reset does not start the kernel again.
const FRESH_WORD: u64 = 0x5a4d_6f77_2e53_6852;

/// The BIOS puts the ACPI tables into the last 64 KiB of the memory; rounded up.
const ACPI_BYTES: u64 = 1 << 20;
/// Alignment of the initramfs.
const PAGE: u64 = 4096;
const SECTOR: u64 = 512;
/// A cylinder of the geometry that Bochs gives a disk: it has only whole ones.
const CYLINDER: u64 = 16 * 63 * SECTOR;

/// Offsets in `struct boot_params`.
mod params {
    pub const E820_ENTRIES: usize = 0x1e8;
    pub const HEADER: usize = 0x1f1;
    pub const LOADER: usize = 0x210;
    pub const INITRAMFS: usize = 0x218;
    pub const INITRAMFS_BYTES: usize = 0x21c;
    pub const COMMAND_LINE: usize = 0x228;
    pub const E820: usize = 0x2d0;
}

/// Why a kernel cannot be started like this.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// It is larger than the memory.
    #[error("kernel and initramfs end at {end} MiB, the lab has {memory_mib} MiB of memory")]
    Memory {
        /// Their end, MiB.
        end: u64,
        /// The memory, MiB.
        memory_mib: u32,
    },
    /// The kernel wants to be where the lab's own tables are.
    #[error("the kernel begins at {0:#x}, below 16 MiB")]
    Low(u64),
    /// A longer command line than the kernel reads.
    #[error("the kernel's command line has {0} bytes, more than 2047")]
    CommandLine(usize),
    /// A file could not be written.
    #[error("while writing the lab's memory")]
    Io(#[from] io::Error),
}

/// What Bochs loads into the machine's memory.
#[derive(Debug)]
pub struct Images {
    /// The ROM.
    pub rom: Vec<u8>,
    /// For [`BOOT`].
    pub boot: Vec<u8>,
}

impl Images {
    /// For this kernel and an initramfs of that size.
    pub fn new(
        kernel: &Vmlinux,
        bytes: u64,
        command_line: &str,
        memory_mib: u32,
    ) -> Result<Self, BootError> {
        if kernel.begin < 16 << 20 {
            return Err(BootError::Low(kernel.begin));
        }
        let initramfs_at = kernel.end.next_multiple_of(PAGE);
        let usable = (u64::from(memory_mib) << 20) - ACPI_BYTES;
        let end = initramfs_at + bytes;
        let (Ok(at), Ok(size), true) = (
            u32::try_from(initramfs_at),
            u32::try_from(bytes),
            end < usable,
        ) else {
            return Err(BootError::Memory {
                end: end >> 20,
                memory_mib,
            });
        };
        if command_line.len() > 2047 {
            return Err(BootError::CommandLine(command_line.len()));
        }
        let mut boot = vec![0; BOOT_BYTES];
        let mut put = |at: usize, bytes: &[u8]| boot[at..at + bytes.len()].copy_from_slice(bytes);
        put(params::HEADER, &kernel.header);
        // 0xff: a boot loader without an assigned number.
        put(params::LOADER, &[0xff]);
        put(params::INITRAMFS, &at.to_le_bytes());
        put(params::INITRAMFS_BYTES, &size.to_le_bytes());
        let line_at = BOOT + 0x1000;
        put(params::COMMAND_LINE, &line_at.to_le_bytes());
        let map = memory_map(usable);
        put(
            params::E820_ENTRIES,
            &[u8::try_from(map.len()).unwrap_or(0)],
        );
        for (index, (begin, end, kind)) in map.into_iter().enumerate() {
            let at = params::E820 + 20 * index;
            put(at, &begin.to_le_bytes());
            put(at + 8, &(end - begin).to_le_bytes());
            put(at + 16, &kind.to_le_bytes());
        }
        put(COMMAND_LINE, command_line.as_bytes());
        for (at, entry) in identity_map() {
            put(at, &entry.to_le_bytes());
        }
        put(ENTRY, &kernel.entry.to_le_bytes());
        put(FRESH, &FRESH_WORD.to_le_bytes());
        let mut sector = 0u32;
        let loaded = [
            (kernel.begin, kernel.image.len() as u64),
            (initramfs_at, bytes),
        ];
        for (index, (address, bytes)) in loaded.into_iter().enumerate() {
            let sectors = sectors(bytes);
            let at = RANGES + 16 * index;
            put(at, &address.to_le_bytes());
            put(at + 8, &sector.to_le_bytes());
            put(at + 12, &sectors.to_le_bytes());
            sector += sectors;
        }
        Ok(Self { rom: rom(), boot })
    }
}

/// The sectors that so many bytes fill; what is loaded is smaller than the memory.
fn sectors(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(SECTOR)).unwrap_or(u32::MAX)
}

/// Writes the disk: the kernel, then the initramfs.
pub fn write_disk(to: &Path, kernel: &Vmlinux, initramfs: &Path) -> io::Result<()> {
    let mut disk = File::create(to)?;
    disk.write_all(&kernel.image)?;
    disk.seek(SeekFrom::Start(
        u64::from(sectors(kernel.image.len() as u64)) * SECTOR,
    ))?;
    io::copy(&mut File::open(initramfs)?, &mut disk)?;
    let end = disk.stream_position()?;
    disk.set_len(end.next_multiple_of(CYLINDER))
}

/// Begin, end and type (1: usable, 2: reserved) of each range.
fn memory_map(usable: u64) -> [(u64, u64, u32); 5] {
    [
        (0, 0x9_fc00, 1),
        // The BIOS' data, the VGA, the ROMs.
        (0x9_fc00, 0x10_0000, 2),
        (0x10_0000, usable, 1),
        (usable, usable + ACPI_BYTES, 2),
        (0xfffc_0000, 0x1_0000_0000, 2),
    ]
}

/// Tables that map the first 4 GiB to itself, in pages of 2 MiB: place and value of each entry.
fn identity_map() -> impl Iterator<Item = (usize, u64)> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let table = |index: usize| u64::from(BOOT) + (TABLES + 0x1000 * index) as u64;
    let top = (TABLES, table(1) | PRESENT_WRITABLE);
    let second = (0..DIRECTORIES).map(move |index| {
        let entry = table(2 + index) | PRESENT_WRITABLE;
        (TABLES + 0x1000 + 8 * index, entry)
    });
    let pages = (0..DIRECTORIES * 512).map(|index| {
        let entry = (index as u64) << 21 | PRESENT_WRITABLE | LARGE;
        (TABLES + 0x2000 + 8 * index, entry)
    });
    [top].into_iter().chain(second).chain(pages)
}

// The BIOS calls it at offset 3, in real mode, and expects it back; it does not return.
global_asm!(
    ".pushsection .rodata.shadowscope_rom, \"a\", @progbits",
    ".balign 16",
    "shadowscope_rom:",
    ".code16",
    // Signature and length in units of 512 bytes.
    ".byte 0x55, 0xaa, 1",
    "cli",
    // Addresses above 1 MiB: the fast gate of A20.
    "inb $0x92, %al",
    "orb $2, %al",
    "andb $0xfe, %al",
    "outb %al, $0x92",
    "movw $({rom} >> 4), %ax",
    "movw %ax, %ds",
    "lgdtl 5f - shadowscope_rom",
    // Long mode in one step: PAE, the tables, LME, then paging and protection together.
    "movl %cr4, %eax",
    "orl $0x20, %eax",
    "movl %eax, %cr4",
    "movl ${tables}, %eax",
    "movl %eax, %cr3",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x100, %eax",
    "wrmsr",
    "movl %cr0, %eax",
    "orl $0x80000001, %eax",
    "movl %eax, %cr0",
    "ljmpl $0x10, $({rom} + 2f - shadowscope_rom)",
    ".code64",
    "2:",
    "movl $0x18, %eax",
    "movl %eax, %ds",
    "movl %eax, %es",
    "movl %eax, %ss",
    // As loaded, or started again by a reset?
    "movl ${fresh_at}, %edi",
    "movabsq ${fresh}, %rax",
    "cmpq %rax, (%rdi)",
    "jne 3f",
    "movq $0, (%rdi)",
    "cld",
    // Each range of the disk, at (%r8): sectors left in %r9d, the next one in %ebx.
    "movl ${ranges_at}, %r8d",
    "20:",
    "movl 12(%r8), %r9d",
    "testl %r9d, %r9d",
    "jz 29f",
    "movq (%r8), %rdi",
    "movl 8(%r8), %ebx",
    // Each command of the ATA disk reads up to 256 sectors: %r10d.
    "21:",
    "movl $256, %r10d",
    "cmpl %r10d, %r9d",
    "cmovbl %r9d, %r10d",
    "movl $0x1f7, %edx",
    // Until it is not busy.
    "22:",
    "inb %dx, %al",
    "testb $0x80, %al",
    "jnz 22b",
    // Number of sectors (0 is 256), the first one in four registers, with LBA, then READ SECTORS.
    "movl $0x1f2, %edx",
    "movl %r10d, %eax",
    "outb %al, %dx",
    "movl %ebx, %eax",
    "incl %edx",
    "outb %al, %dx",
    "shrl $8, %eax",
    "incl %edx",
    "outb %al, %dx",
    "shrl $8, %eax",
    "incl %edx",
    "outb %al, %dx",
    "shrl $8, %eax",
    "incl %edx",
    "orb $0xe0, %al",
    "outb %al, %dx",
    "incl %edx",
    "movb $0x20, %al",
    "outb %al, %dx",
    "subl %r10d, %r9d",
    "addl %r10d, %ebx",
    // Each sector, when it is not busy and has data.
    "23:",
    "inb %dx, %al",
    "testb $1, %al",
    "jnz 3f",
    "andb $0x88, %al",
    "cmpb $8, %al",
    "jne 23b",
    "movl $0x1f0, %edx",
    "movl $128, %ecx",
    "rep insl",
    "movl $0x1f7, %edx",
    "decl %r10d",
    "jnz 23b",
    "testl %r9d, %r9d",
    "jnz 21b",
    "addq $16, %r8",
    "jmp 20b",
    "29:",
    "movl ${boot}, %esi",
    "movl ${entry_at}, %edi",
    "jmpq *(%rdi)",
    // Bochs ends when this word is written to its port.
    "3:",
    "leaq 4f(%rip), %rsi",
    "movl $0x8900, %edx",
    "movl $8, %ecx",
    "rep outsb",
    "hlt",
    "4:",
    ".ascii \"Shutdown\"",
    ".balign 8",
    // Size and address of the segments.
    "5:",
    ".word 31",
    ".long {rom} + 6f - shadowscope_rom",
    ".balign 8",
    // Nothing, nothing, 64-bit code, data; at 0x10 and 0x18, where the kernel has its own.
    "6:",
    ".quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    // The last byte is for the checksum.
    ".fill 512 - (. - shadowscope_rom), 1, 0",
    ".popsection",
    rom = const ROM,
    tables = const BOOT as usize + TABLES,
    boot = const BOOT,
    entry_at = const BOOT as usize + ENTRY,
    fresh_at = const BOOT as usize + FRESH,
    fresh = const FRESH_WORD,
    ranges_at = const BOOT as usize + RANGES,
    options(att_syntax)
);

unsafe extern "C" {
    #[link_name = "shadowscope_rom"]
    static CODE: [u8; 512];
}

/// The ROM with its checksum: the sum of its bytes is 0.
fn rom() -> Vec<u8> {
    // SAFETY: the assembler's directives above define 512 bytes that never change.
    let mut rom = unsafe { CODE }.to_vec();
    let sum = rom.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(last) = rom.last_mut() {
        *last = last.wrapping_sub(sum);
    }
    rom
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bios_accepts_the_rom() {
        let rom = rom();
        assert_eq!((rom.len(), &rom[..3]), (512, [0x55, 0xaa, 1].as_slice()));
        assert_eq!(rom.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        // `cli` is where the BIOS calls it.
        assert_eq!(rom[3], 0xfa);
    }

    #[test]
    fn the_tables_map_every_address_to_itself() {
        let mut memory = vec![0; BOOT_BYTES];
        for (at, entry) in identity_map() {
            memory[at..at + 8].copy_from_slice(&entry.to_le_bytes());
        }
        let read = |table: u64, index: u64| {
            let at = usize::try_from(table - u64::from(BOOT) + 8 * index).expect("in the image");
            u64::from_le_bytes(memory[at..at + 8].try_into().expect("8 bytes"))
        };
        for address in [0, 0x20_1234, 0x3fff_ffff, 0x4000_0000, 0xffff_ffff_u64] {
            let mut table = u64::from(BOOT) + TABLES as u64;
            for shift in [39, 30] {
                table = read(table, address >> shift & 511) & !0xfff;
            }
            let page = read(table, address >> 21 & 511);
            assert_eq!(page & !0xfff | address & 0x1f_ffff, address);
        }
    }

    #[test]
    fn the_kernel_and_the_initramfs_must_fit() {
        let kernel = Vmlinux {
            header: vec![0; 0x70],
            begin: 16 << 20,
            end: 80 << 20,
            entry: 16 << 20,
            image: vec![0; 1000],
        };
        let images = |memory| Images::new(&kernel, 50 << 20, "quiet", memory);
        let made = images(256).expect("it fits");
        assert_eq!(&made.boot[0x1000..0x1006], b"quiet\0");
        let numbers: Vec<_> = made.boot[RANGES..]
            .chunks(4)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().expect("4 bytes")))
            .collect();
        // Two sectors of kernel, and where the initramfs begins on the disk.
        let expected = [16 << 20, 0, 0, 2, 80 << 20, 0, 2, 50 << 11, 0, 0, 0, 0];
        assert_eq!(numbers, expected);
        assert!(matches!(
            images(128),
            Err(BootError::Memory { end: 130, .. })
        ));
    }
}
