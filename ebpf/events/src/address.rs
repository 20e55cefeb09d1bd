//! One type for each address space, so that a GVA is never taken for a GPA.
//!
//! Frame numbers count 4 KiB pages of their space. Conversions here stay within a space: to
//! convert between spaces is what the shadow MMU does.

use core::fmt;

use bytemuck::{Pod, Zeroable};

/// Bytes in a page, as a shift.
const PAGE_SHIFT: u32 = 12;
const PAGE_MASK: u64 = (1 << PAGE_SHIFT) - 1;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:#x})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// Guest virtual address: what the guest's instruction used.
    Gva
}
address! {
    /// Guest physical address: what the guest believes to be memory.
    Gpa
}
address! {
    /// Guest frame number: a GPA in 4 KiB pages (the kernel's `gfn_t`).
    Gfn
}
address! {
    /// Host virtual address in the VMM's address space (the memslot's `userspace_addr` space).
    Hva
}
address! {
    /// Host physical address. On a nested host, physical only for that host.
    Hpa
}
address! {
    /// Host page frame number: an HPA in 4 KiB pages (`kvm_pfn_t` without error bits).
    Pfn
}
address! {
    /// A guest page-table entry as the walker read it.
    Gpte
}
address! {
    /// A shadow page-table entry, all 64 bits as KVM or the hardware left them.
    Spte
}

impl Gva {
    /// The byte within its 4 KiB page.
    pub const fn page_offset(self) -> u64 {
        self.0 & PAGE_MASK
    }
}

impl Gpa {
    /// The frame that holds this byte.
    pub const fn gfn(self) -> Gfn {
        Gfn(self.0 >> PAGE_SHIFT)
    }
}

impl Gfn {
    /// The GPA of the byte at `offset` in this frame.
    pub const fn gpa(self, offset: u64) -> Gpa {
        Gpa((self.0 << PAGE_SHIFT) | (offset & PAGE_MASK))
    }
}

impl Hpa {
    /// The frame that holds this byte.
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }

    /// The page-table page that holds this entry.
    pub const fn table(self) -> Hpa {
        Hpa(self.0 & !PAGE_MASK)
    }

    /// Which of the 512 eight-byte entries of its page this address is.
    pub const fn index(self) -> u16 {
        ((self.0 & PAGE_MASK) >> 3) as u16
    }
}

impl Pfn {
    /// The first byte of the frame.
    pub const fn hpa(self) -> Hpa {
        Hpa(self.0 << PAGE_SHIFT)
    }
}
