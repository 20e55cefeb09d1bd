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
