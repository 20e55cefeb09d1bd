//! By what faults are added up.

use clap::ValueEnum;

/// By what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The guest's root table: one for each of its processes
    Cr3,
    /// The guest's instruction
    Rip,
    /// The guest's function (with symbols)
    Symbol,
    /// Ranges of addresses
    GvaRange,
    /// Memslots
    Slot,
    /// The guest's own page tables: stores to them, and what those, syncs and INVLPG made fault
    GuestTable,
    /// The shadow page that holds the leaf, one life of it each
    ShadowPage,
    /// vCPUs
    Vcpu,
    /// What had removed the entry that the fault needed
    Cause,
}

impl By {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cr3 => "cr3",
            Self::Rip => "rip",
            Self::Symbol => "symbol",
            Self::GvaRange => "gva-range",
            Self::Slot => "slot",
            Self::GuestTable => "guest-table",
            Self::ShadowPage => "shadow-page",
            Self::Vcpu => "vcpu",
            Self::Cause => "cause",
        }
    }

    /// Whether the key is not in the fault's record: the tables have it, or what went before.
    pub(super) fn needs_tables(self) -> bool {
        matches!(self, Self::GuestTable | Self::ShadowPage | Self::Cause)
    }

    /// What the faults without such a key are.
    pub fn keyless(self) -> &'static str {
        match self {
            Self::Rip | Self::Symbol => "(rip not recorded)",
            Self::Slot => "(no memslot known)",
            Self::ShadowPage => "(no leaf stored)",
            Self::GuestTable => "(no table)",
            Self::Cause => "(needs no entry)",
            _ => "(not known)",
        }
    }
}
