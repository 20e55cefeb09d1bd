//! The invariants, by name, and the kernel's bug that each one guards against.

use std::fmt;

/// One invariant of the shadow MMU.
///
/// The rules are those of `arch/x86/kvm/mmu/mmu.c` and `paging_tmpl.h`, Linux 6.1 to 7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// See [`Check::rule`].
    DirectLeafFrame,
    /// See [`Check::rule`].
    ChildRole,
    /// See [`Check::rule`].
    InvalidRoot,
    /// See [`Check::rule`].
    MmioOverPresent,
    /// See [`Check::rule`].
    WritableTable,
    /// See [`Check::rule`].
    OutsideSlot,
    /// See [`Check::rule`].
    StaleLeaf,
    /// See [`Check::rule`].
    ZapOutsideSlot,
}

impl Check {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Check; 8] = [
        Check::DirectLeafFrame,
        Check::ChildRole,
        Check::InvalidRoot,
        Check::MmioOverPresent,
        Check::WritableTable,
        Check::OutsideSlot,
        Check::StaleLeaf,
        Check::ZapOutsideSlot,
    ];

    /// Its name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DirectLeafFrame => "direct_leaf_frame",
            Self::ChildRole => "child_role",
            Self::InvalidRoot => "invalid_root",
            Self::MmioOverPresent => "mmio_over_present",
            Self::WritableTable => "writable_table",
            Self::OutsideSlot => "outside_slot",
            Self::StaleLeaf => "stale_leaf",
            Self::ZapOutsideSlot => "zap_outside_slot",
        }
    }

    /// What must hold.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::DirectLeafFrame => {
                "a leaf of a direct page maps the guest frame that its place demands"
            }
            Self::ChildRole => {
                "a page's direct, level, quadrant and frame agree with the guest's entry above it"
            }
            Self::InvalidRoot => "no page is made or filled below a root that was zapped",
            Self::MmioOverPresent => "no MMIO marker replaces a present entry without a zap",
            Self::WritableTable => {
                "no leaf lets the guest write a frame with a synced table, in any address space"
            }
            Self::OutsideSlot => "every leaf lies within a memslot",
            Self::StaleLeaf => "no leaf outlives the act that must remove it",
            Self::ZapOutsideSlot => {
                "deleting a memslot zaps no page that shadows a frame outside of it"
            }
        }
    }

    /// The public record of a bug that broke it: CVE or commit of Linux.
    pub const fn guards(self) -> &'static [&'static str] {
        match self {
            Self::DirectLeafFrame => &["CVE-2026-46113", "0cb2af2ea66a"],
            Self::ChildRole => &["CVE-2026-53359", "81ccda30b4e8"],
            Self::InvalidRoot => &["CVE-2026-64561", "2abd5287f083"],
            Self::MmioOverPresent => &["CVE-2026-23401", "aad885e77496"],
            Self::WritableTable => &["2e8a2c1b0306"],
            Self::OutsideSlot | Self::StaleLeaf => &[],
            Self::ZapOutsideSlot => &["58a20a9435aa"],
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a place could not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The layout of role words in `meta.json` lacks a field.
    NoRoleField,
    /// The fault's walk of the guest's tables is not in its row, or not whole.
    NoWalk,
    /// The way from the root to the leaf is not known.
    NoPath,
    /// Nested paging: the guest's own tables are another guest's.
    Nested,
    /// Leaf tables that KVM may treat as obsolete; the next keyframe decides.
    MayBeObsolete,
    /// Another address space, and nothing shows whether it has the same memory there.
    OtherSpace,
    /// Memslots of an attached VM are known at keyframes only.
    SlotsSeenLate,
    /// The trace has no memslots of this VM.
    NoSlots,
    /// Entries change without a record on this host.
    SilentChanges,
    /// Several vCPUs: another one may be storing to the table just then.
    SeveralVcpus,
    /// No keyframe follows that shows what was left.
    NoKeyframe,
    /// More leaves, or pages, than are remembered, or looked at for one place.
    TooMany,
    /// All pages were zapped, which is how this kernel deletes a memslot.
    ZapsAll,
    /// An unsync page goes with the upper table above it, in whichever memslot.
    UnsyncChild,
    /// No record has named the root.
    UnknownRoot,
}

impl Why {
    /// Every reason.
    pub const ALL: [Why; 15] = [
        Why::NoRoleField,
        Why::NoWalk,
        Why::NoPath,
        Why::Nested,
        Why::MayBeObsolete,
        Why::OtherSpace,
        Why::SlotsSeenLate,
        Why::NoSlots,
        Why::SilentChanges,
        Why::SeveralVcpus,
        Why::NoKeyframe,
        Why::TooMany,
        Why::ZapsAll,
        Why::UnsyncChild,
        Why::UnknownRoot,
    ];

    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoRoleField => "the trace does not have the whole layout of role words",
            Self::NoWalk => "the fault has no whole walk of the guest's tables",
            Self::NoPath => "the way from the root to the leaf is not known",
            Self::Nested => "nested paging",
            Self::MayBeObsolete => "the page may be obsolete; keyframes decide",
            Self::OtherSpace => "another address space, whose memory at that frame is not known",
            Self::SlotsSeenLate => "memslots of an attached VM are known at keyframes only",
            Self::NoSlots => "the trace has no memslots of this VM",
            Self::SilentChanges => "this host has no record of every change",
            Self::SeveralVcpus => "another vCPU may be storing to the guest's table",
            Self::NoKeyframe => "no keyframe follows the act",
            Self::TooMany => "more leaves, or pages, than are remembered or looked at",
            Self::ZapsAll => "this kernel zaps every page when a memslot goes",
            Self::UnsyncChild => "an unsync page goes with the upper table above it",
            Self::UnknownRoot => "no record has named the root",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}
