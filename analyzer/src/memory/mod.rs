//! What the shadow tables cost in memory: pages over time, and who has them at the peak.
//!
//! ```text
//! growth    pages by level and kind over time; made, found again, zapped
//! owners    which address spaces have the pages over time
//! snapshot  one moment: guest tables, duplicates, what each root has alone
//! report    the result in JSON
//! tables    the same as text
//! ```
//!
//! A shadow page has 512 entries of 8 bytes. What KVM keeps besides is not counted: a
//! `struct kvm_mmu_page` for each, and for most pages that shadow a guest table as much again
//! (`shadowed_translation`).

mod growth;
mod owners;
mod report;
mod snapshot;
mod tables;
#[cfg(test)]
mod tests;

pub use growth::{Growth, Peak};
pub use owners::{Look, Owners};
pub use report::{MemoryReport, PeakReport, VmMemory};
pub use snapshot::{AddressSpace, At, Duplicate, RoleCount, Snapshot};
pub use tables::{document, owners_tables, table};

/// Bytes of the entries of one shadow page, and of one guest table.
pub const PAGE_BYTES: u64 = 4096;
