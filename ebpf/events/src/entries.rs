//! An SPTE that changed outside the leaf of a recorded fault.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Header, Hpa, Spte};

/// Why an entry changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cause {
    /// An upper entry that points to a child table, read on the path of a fault that got a page.
    Link = 1,
    /// A neighbour of a fault's leaf, mapped ahead (`FNAME(pte_prefetch)`).
    Prefetch = 2,
    /// `kvm_mmu_set_spte` outside any fault seen.
    Other = 3,
    /// Read after a fault that KVM gave up, since the host may have taken its entry away meanwhile
    /// (copy on write of the host's page), which no tracepoint tells.
    Reread = 4,
}

impl Cause {
    /// Every cause, in the order of their numbers.
    pub const ALL: [Cause; 4] = [Cause::Link, Cause::Prefetch, Cause::Other, Cause::Reread];

    /// The cause with this number, if there is one.
    pub fn from_raw(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| *cause as u8 == raw)
    }

    /// Its name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Link => "link",
            Cause::Prefetch => "prefetch",
            Cause::Other => "other",
            Cause::Reread => "reread",
        }
    }

    /// The cause with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }
}

/// A change of one SPTE.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Entry {
    /// See [`Header`].
    pub header: Header,
    /// Where the entry stands.
    pub sptep: Hpa,
    /// Its value, read back after the store.
    pub spte: Spte,
    /// For a leaf, the guest frame; zero for a link.
    pub gfn: Gfn,
    /// Level of the table that holds the entry.
    pub level: u8,
    /// A [`Cause`].
    pub cause: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

const _: () = assert!(size_of::<Entry>() == 56);
