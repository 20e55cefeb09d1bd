//! Faults that are no refaults.

/// Why a fault is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// The address had not been mapped before, in this guest table and role, or not below this
    /// upper table.
    First,
    /// The entry was there, with fewer rights than the access needed, and nothing had taken them.
    Strengthened,
    /// Nothing was missing: another vCPU was faster, or KVM emulated the access.
    NothingMissing,
    /// The entry, or the path to it, went while KVM handled the fault.
    WentMeanwhile,
    /// It is on a guest table beyond the number that is followed.
    NotFollowed,
    /// It is not on memory that KVM maps: the guest's own fault (`guest`), or `mmio`.
    NeedsNone,
}

impl Other {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::First,
        Self::Strengthened,
        Self::NothingMissing,
        Self::WentMeanwhile,
        Self::NotFollowed,
        Self::NeedsNone,
    ];

    /// Its name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Strengthened => "strengthened",
            Self::NothingMissing => "nothing_missing",
            Self::WentMeanwhile => "went_meanwhile",
            Self::NotFollowed => "not_followed",
            Self::NeedsNone => "needs_none",
        }
    }

    /// In words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::First => "not mapped before",
            Self::Strengthened => "the entry lacked a right that nothing had taken",
            Self::NothingMissing => "another vCPU was faster, or KVM emulated the access",
            Self::WentMeanwhile => "the entry, or the path to it, went while KVM handled the fault",
            Self::NotFollowed => "on a guest table beyond the number that is followed",
            Self::NeedsNone => "the guest's own faults, and MMIO",
        }
    }
}
