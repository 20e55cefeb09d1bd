//! In what replayed tables and the kernel's own differ, and which of it is drift.
//!
//! Where only tracepoints can be probed, some changes have no record at all. A keyframe shows them
//! late: such a difference is not an error of replay, and is counted apart. Where every change has
//! its record, each difference is drift.

use events::{Hpa, Level, Spte};

use super::tables::WRITE_BITS;

/// W alone: what dirty logging takes (`spte_write_protect` without `pt_protect`).
const WRITABLE: u64 = 1 << 1;

/// In what a replayed entry and the kernel's differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DifferenceKind {
    /// The kernel has an entry, replay has none.
    MissingEntry,
    /// Replay has an entry, the kernel has none.
    ExtraEntry,
    /// Both have one, for another frame or another child.
    OtherFrame,
    /// The same frame, other permission bits.
    OtherPermission,
    /// Only the bits that hardware sets by itself; not drift.
    AccessedDirty,
    /// The kernel has a page, replay has none.
    MissingPage,
    /// Replay has a page, the kernel has none.
    ExtraPage,
    /// The same page with another level.
    OtherLevel,
    /// The same page with another gfn, role or unsync.
    OtherPage,
}

impl DifferenceKind {
    /// Those that are drift, in the order in which they are shown.
    pub const DRIFT: [DifferenceKind; 8] = [
        DifferenceKind::MissingEntry,
        DifferenceKind::ExtraEntry,
        DifferenceKind::OtherFrame,
        DifferenceKind::OtherPermission,
        DifferenceKind::MissingPage,
        DifferenceKind::ExtraPage,
        DifferenceKind::OtherLevel,
        DifferenceKind::OtherPage,
    ];

    /// Its name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissingEntry => "missing_entry",
            Self::ExtraEntry => "extra_entry",
            Self::OtherFrame => "other_frame",
            Self::OtherPermission => "other_permission",
            Self::AccessedDirty => "accessed_dirty",
            Self::MissingPage => "missing_page",
            Self::ExtraPage => "extra_page",
            Self::OtherLevel => "other_level",
            Self::OtherPage => "other_page",
        }
    }

    /// It is of a whole page, not of one entry.
    pub const fn is_of_page(self) -> bool {
        matches!(
            self,
            Self::MissingPage | Self::ExtraPage | Self::OtherLevel | Self::OtherPage
        )
    }
}

/// What the kernel does to a leaf without a tracepoint, and without a record where only those can
/// be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LateKind {
    /// The leaf is gone.
    LeafGone,
    /// The leaf lost W, and can get it back (MMU-writable).
    LeafReadOnly,
    /// The leaf lost MMU-writable, and W if it had it.
    LeafProtected,
}

impl LateKind {
    /// Every kind.
    pub const ALL: [LateKind; 3] = [
        LateKind::LeafGone,
        LateKind::LeafReadOnly,
        LateKind::LeafProtected,
    ];

    /// Its name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeafGone => "leaf_gone",
            Self::LeafReadOnly => "leaf_read_only",
            Self::LeafProtected => "leaf_protected",
        }
    }

    /// The functions of the kernel that can have done it.
    pub const fn writers(self) -> &'static [&'static str] {
        match self {
            Self::LeafGone => &[
                "kvm_unmap_gfn_range",
                "kvm_set_spte_gfn",
                "kvm_arch_flush_shadow_memslot",
                "kvm_zap_gfn_range",
                "kvm_mmu_zap_collapsible_sptes",
                "__rmap_add",
            ],
            Self::LeafReadOnly => &[
                "kvm_mmu_slot_remove_write_access",
                "kvm_arch_mmu_enable_log_dirty_pt_masked",
            ],
            Self::LeafProtected => &["__kvm_mmu_get_shadow_page", "__kvm_sync_page"],
        }
    }

    /// Why no record shows it.
    pub const fn why(self) -> &'static str {
        match self {
            Self::LeafGone => {
                "the host took the page away, moved or merged it, or KVM zapped the frame: no \
                 tracepoint shows the entry"
            }
            Self::LeafReadOnly => "dirty logging took write access: no tracepoint shows it",
            Self::LeafProtected => {
                "its frame became a table of the guest, and no record said which frame it maps"
            }
        }
    }

    /// What can explain that the kernel has `kernel` at `level` where replay has `replayed`.
    /// `gfn_known`: some record said which guest frame the leaf maps, so replay's own rules hold
    /// for it. Links are never changed silently.
    pub(super) fn of(level: Level, replayed: Spte, kernel: Spte, gfn_known: bool) -> Option<Self> {
        if !replayed.is_leaf(level) {
            return None;
        }
        if !kernel.is_shadow_present() {
            return Some(Self::LeafGone);
        }
        let (replayed, kernel) = (
            replayed.without_accessed_dirty().0,
            kernel.without_accessed_dirty().0,
        );
        let lost = replayed & !kernel;
        match (kernel & !replayed, lost) {
            (0, WRITABLE) if kernel & WRITE_BITS & !WRITABLE != 0 => Some(Self::LeafReadOnly),
            (0, lost) if lost != 0 && lost & !WRITE_BITS == 0 && kernel & WRITE_BITS == 0 => {
                (!gfn_known).then_some(Self::LeafProtected)
            }
            _ => None,
        }
    }
}

/// Differences that a silent change explains, by its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late([u64; LateKind::ALL.len()]);

impl Late {
    /// Of one kind.
    pub fn of(&self, kind: LateKind) -> u64 {
        let [gone, read_only, protected] = self.0;
        match kind {
            LateKind::LeafGone => gone,
            LateKind::LeafReadOnly => read_only,
            LateKind::LeafProtected => protected,
        }
    }

    /// In all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn count(&mut self, kind: LateKind) {
        let [gone, read_only, protected] = &mut self.0;
        *match kind {
            LateKind::LeafGone => gone,
            LateKind::LeafReadOnly => read_only,
            LateKind::LeafProtected => protected,
        } += 1;
    }
}

/// Counts of differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Entries that the kernel has and replay has not.
    pub missing_entries: u64,
    /// Entries that replay has and the kernel has not.
    pub extra_entries: u64,
    /// Entries with another frame or child.
    pub other_frame: u64,
    /// Entries with other permission bits.
    pub other_permission: u64,
    /// Entries that differ only in A and D: hardware sets them without a trace. Not drift.
    pub accessed_dirty: u64,
    /// Pages that the kernel has and replay has not.
    pub missing_pages: u64,
    /// Pages that replay has and the kernel has not.
    pub extra_pages: u64,
    /// Pages with another level.
    pub other_level: u64,
    /// Pages with another gfn, role or unsync.
    pub other_page: u64,
    /// Entries whose change no record can have shown. Not drift.
    pub late: Late,
}

impl Drift {
    /// Entries that drifted.
    pub fn entries(&self) -> u64 {
        self.missing_entries + self.extra_entries + self.other_frame + self.other_permission
    }

    /// Pages that drifted.
    pub fn pages(&self) -> u64 {
        self.missing_pages + self.extra_pages + self.other_level + self.other_page
    }

    /// No drift.
    pub fn is_exact(&self) -> bool {
        self.entries() == 0 && self.pages() == 0
    }

    /// Of one kind.
    pub fn of(&self, kind: DifferenceKind) -> u64 {
        match kind {
            DifferenceKind::MissingEntry => self.missing_entries,
            DifferenceKind::ExtraEntry => self.extra_entries,
            DifferenceKind::OtherFrame => self.other_frame,
            DifferenceKind::OtherPermission => self.other_permission,
            DifferenceKind::AccessedDirty => self.accessed_dirty,
            DifferenceKind::MissingPage => self.missing_pages,
            DifferenceKind::ExtraPage => self.extra_pages,
            DifferenceKind::OtherLevel => self.other_level,
            DifferenceKind::OtherPage => self.other_page,
        }
    }

    /// Adds the counts of another keyframe.
    pub fn add(&mut self, other: &Drift) {
        self.missing_entries += other.missing_entries;
        self.extra_entries += other.extra_entries;
        self.other_frame += other.other_frame;
        self.other_permission += other.other_permission;
        self.accessed_dirty += other.accessed_dirty;
        self.missing_pages += other.missing_pages;
        self.extra_pages += other.extra_pages;
        self.other_level += other.other_level;
        self.other_page += other.other_page;
        for (sum, more) in self.late.0.iter_mut().zip(other.late.0) {
            *sum += more;
        }
    }

    /// Counts a difference, as drift or as seen late.
    pub(super) fn count(&mut self, difference: &Difference) {
        if let Some(kind) = difference.late {
            self.late.count(kind);
            return;
        }
        *match difference.kind {
            DifferenceKind::MissingEntry => &mut self.missing_entries,
            DifferenceKind::ExtraEntry => &mut self.extra_entries,
            DifferenceKind::OtherFrame => &mut self.other_frame,
            DifferenceKind::OtherPermission => &mut self.other_permission,
            DifferenceKind::AccessedDirty => &mut self.accessed_dirty,
            DifferenceKind::MissingPage => &mut self.missing_pages,
            DifferenceKind::ExtraPage => &mut self.extra_pages,
            DifferenceKind::OtherLevel => &mut self.other_level,
            DifferenceKind::OtherPage => &mut self.other_page,
        } += 1;
    }
}

/// One difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub kind: DifferenceKind,
    /// The silent change that explains it: then it is no drift.
    pub late: Option<LateKind>,
    /// The entry, or the page.
    pub place: Hpa,
    /// Level of the table.
    pub level: Level,
    /// Replay's entry.
    pub replayed: Spte,
    /// The kernel's entry.
    pub kernel: Spte,
}

impl Difference {
    /// One of a whole page.
    pub(super) fn of_page(kind: DifferenceKind, place: Hpa, level: Level) -> Self {
        Self {
            kind,
            late: None,
            place,
            level,
            replayed: Spte(0),
            kernel: Spte(0),
        }
    }
}

/// Only shadow-present entries are SPTEs.
pub(super) fn compare(replayed: Spte, kernel: Spte) -> Option<DifferenceKind> {
    match (replayed.is_shadow_present(), kernel.is_shadow_present()) {
        (false, false) => None,
        (false, true) => Some(DifferenceKind::MissingEntry),
        (true, false) => Some(DifferenceKind::ExtraEntry),
        (true, true) if replayed == kernel => None,
        (true, true) if replayed.pfn() != kernel.pfn() => Some(DifferenceKind::OtherFrame),
        (true, true) if replayed.without_accessed_dirty() == kernel.without_accessed_dirty() => {
            Some(DifferenceKind::AccessedDirty)
        }
        (true, true) => Some(DifferenceKind::OtherPermission),
    }
}
