//! The life of a shadow page (`struct kvm_mmu_page`).

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Header, Hpa, Level, named::named_enum};

named_enum! {
    /// What happened to the page.
    PageEvent: u8;
    /// Made, empty (`kvm_mmu_get_page`, created).
    Born = 1 "born",
    /// Found by gfn and role, to be linked once more (`kvm_mmu_get_page`, not created).
    Reused = 2 "reused",
    /// The guest may write the leaf table it shadows (`kvm_mmu_unsync_page`).
    Unsync = 3 "unsync",
    /// About to be brought in line with the guest's table (`kvm_mmu_sync_page`).
    Sync = 4 "sync",
    /// Zapped: its entries and its parents' links go (`kvm_mmu_prepare_zap_page`).
    Zapped = 5 "zapped",
}

/// `union kvm_mmu_page_role` as the running kernel lays it out: the raw word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Role(pub u32);

/// Where the fields of a [`Role`] are in its word, from BTF (they moved in Linux 7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RoleLayout {
    /// Lowest bit and width of `level`.
    pub level: [u8; 2],
    /// Lowest bit and width of `direct`.
    pub direct: [u8; 2],
    /// Lowest bit and width of `access`.
    pub access: [u8; 2],
    /// Lowest bit and width of `invalid`.
    pub invalid: [u8; 2],
    /// Lowest bit and width of `has_4_byte_gpte`.
    pub four_bytes: [u8; 2],
    /// Lowest bit and width of `quadrant`.
    pub quadrant: [u8; 2],
}

/// Which entries of a guest table the 512 entries of a shadow page shadow.
///
/// A table of 32-bit paging has 1024 entries of four bytes. Each of a leaf table has a shadow entry,
/// so the table has two shadow pages. Each above maps 4 MiB, where a shadow entry maps 2 MiB: it has
/// two shadow entries, and the table four shadow pages. Which of them a page is, is its quadrant
/// (`kvm_mmu_child_role`, arch/x86/kvm/mmu/mmu.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gptes {
    /// Bytes of a guest entry.
    pub bytes: u16,
    /// Index of the first one.
    first: u16,
    /// Each has two shadow entries.
    doubled: bool,
}

impl Gptes {
    /// All entries of a table of 512.
    pub const ALL: Self = Self {
        bytes: 8,
        first: 0,
        doubled: false,
    };

    /// Where in its table the guest entry is that a shadow entry shadows, in bytes.
    pub const fn offset(self, index: u16) -> u64 {
        let shift = if self.doubled { 1 } else { 0 };
        // At most 1024 entries of four bytes.
        (self.first + (index & 511) / (1 << shift)) as u64 * self.bytes as u64
    }

    /// The shadow entries of the guest entry at an offset in the table; none if another page shadows
    /// it.
    pub fn shadow_entries(self, offset: u64) -> impl Iterator<Item = u16> {
        let entry = (offset & 0xfff) / u64::from(self.bytes);
        let each = 1 + u64::from(self.doubled);
        let from = entry
            .checked_sub(self.first.into())
            .map(|entry| entry * each);
        let from = from.filter(|from| *from < 512);
        let indexes = from.into_iter().flat_map(move |from| from..from + each);
        // Below 512.
        indexes.filter_map(|index| u16::try_from(index).ok())
    }
}

impl Role {
    const fn field(self, place: [u8; 2]) -> u32 {
        // Both shifts are below 32 for any bytes, so a hostile layout cannot overflow.
        (self.0 >> (place[0] & 31)) & ((1 << (place[1] & 31)) - 1)
    }

    /// Level of the table.
    pub const fn level(self, layout: &RoleLayout) -> Level {
        Level(self.field(layout.level).to_le_bytes()[0])
    }

    /// Maps a range of frames without a guest table.
    pub const fn is_direct(self, layout: &RoleLayout) -> bool {
        self.field(layout.direct) != 0
    }

    /// `ACC_*` rights that the path to the page allows; the bits moved in Linux 7.2.
    pub const fn access(self, layout: &RoleLayout) -> u8 {
        self.field(layout.access).to_le_bytes()[0]
    }

    /// Of [`Role::access`]: write, execute, user. With four bits (Linux 7.2) the lowest is read.
    pub const fn rights(self, layout: &RoleLayout) -> [bool; 3] {
        let execute = if layout.access[1] > 3 { 8 } else { 1 };
        let access = self.access(layout);
        [access & 2 != 0, access & execute != 0, access & 4 != 0]
    }

    /// The guest entries that a page of this role shadows.
    pub const fn gptes(self, layout: &RoleLayout) -> Gptes {
        if self.field(layout.four_bytes) == 0 {
            return Gptes::ALL;
        }
        let doubled = self.level(layout).0 > 1;
        // Two bits wide at most, as KVM has it.
        let quadrant = (self.field(layout.quadrant) & 3) as u16;
        Gptes {
            bytes: 4,
            first: quadrant * if doubled { 256 } else { 512 },
            doubled,
        }
    }

    /// Zapped while still in use as a root.
    pub const fn is_invalid(self, layout: &RoleLayout) -> bool {
        self.field(layout.invalid) != 0
    }
}

/// An event in the life of a shadow page.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Page {
    /// See [`Header`].
    pub header: Header,
    /// The page of 512 entries (`sp->spt`).
    pub spt: Hpa,
    /// The guest table it shadows; for a direct page, the first frame it maps.
    pub gfn: Gfn,
    /// See [`Role`].
    pub role: Role,
    /// A [`PageEvent`].
    pub event: u8,
    /// `sp->unsync` when the event fired.
    pub unsync: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<Page>() == 48);

#[cfg(test)]
mod tests {
    use super::{Gptes, Role, RoleLayout};

    const LAYOUT: RoleLayout = RoleLayout {
        level: [0, 4],
        direct: [7, 1],
        access: [8, 3],
        invalid: [11, 1],
        four_bytes: [4, 1],
        quadrant: [5, 2],
    };

    fn gptes(level: u32, quadrant: u32) -> Gptes {
        Role(level | 1 << 4 | quadrant << 5).gptes(&LAYOUT)
    }

    fn shadow_entries(of: Gptes, offset: u64) -> [Option<u16>; 2] {
        let mut indexes = of.shadow_entries(offset);
        [indexes.next(), indexes.next()]
    }

    #[test]
    fn a_table_of_eight_byte_entries_has_one_page() {
        let all = Role(2).gptes(&LAYOUT);
        assert_eq!(all, Gptes::ALL);
        assert_eq!(all.offset(511), 0xff8);
        assert_eq!(shadow_entries(all, 0xff8), [Some(511), None]);
    }

    #[test]
    fn a_leaf_table_of_four_byte_entries_has_two_pages() {
        let second = gptes(1, 1);
        assert_eq!(second.offset(3), 0x80c);
        assert_eq!(shadow_entries(second, 0x80c), [Some(3), None]);
        assert_eq!(shadow_entries(second, 0x7fc), [None, None]);
        assert_eq!(shadow_entries(gptes(1, 0), 0x80c), [None, None]);
    }

    #[test]
    fn each_entry_of_a_directory_of_four_byte_entries_has_two_shadow_entries() {
        let last = gptes(2, 3);
        assert_eq!(
            [last.offset(0), last.offset(1), last.offset(2)],
            [0xc00, 0xc00, 0xc04]
        );
        assert_eq!(shadow_entries(last, 0xc04), [Some(2), Some(3)]);
        assert_eq!(shadow_entries(last, 0xbfc), [None, None]);
        assert_eq!(shadow_entries(gptes(2, 2), 0xbfc), [Some(510), Some(511)]);
    }
}
