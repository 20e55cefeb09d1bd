//! How many records of which kind a VM has.

use std::collections::BTreeMap;

use events::{Cause, Class, HostEvent, PageEvent};
use trace::{FaultRow, Record};

/// `PFERR_RSVD_MASK`.
const RESERVED: u32 = 1 << 3;

/// `handle_mmio_page_fault` knew it by the marker in the shadow entry. A stale marker leads on to
/// `kvm_mmu_do_page_fault`, and then a step of that is seen.
fn is_on_mmio_marker(row: &FaultRow) -> bool {
    let steps = [row.walk_ns, row.pfn_ns, row.tables_ns, row.pfn_tables_ns];
    row.class == Class::Mmio && row.error_code & RESERVED != 0 && steps.iter().all(Option::is_none)
}

/// Records of one VM, counted by what they say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults by class.
    pub classes: BTreeMap<Class, u64>,
    /// Faults on a marker for MMIO (`PFERR_RSVD_MASK`): KVM emulates at once, and counts them nowhere.
    pub mmio_markers: u64,
    /// SPTE changes by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// Events in the life of shadow pages.
    pub pages: BTreeMap<PageEvent, u64>,
    /// The guest's stores that KVM emulated.
    pub writes: u64,
    /// Those of them that came while KVM shadowed any guest table.
    pub writes_while_shadowing: u64,
    /// What the host did to ranges of frames.
    pub host: BTreeMap<HostEvent, u64>,
    /// Faults with a leaf SPTE.
    pub leaves: u64,
    /// Root switches.
    pub roots: u64,
    /// Marks of phases.
    pub marks: u64,
    /// Pages of keyframes.
    pub keyframe_pages: u64,
    /// Shadow pages that faults say they created.
    pub created_by_faults: u64,
}

impl Counts {
    /// Counts a record.
    pub fn add(&mut self, record: &Record) {
        match record {
            Record::Fault(row) => {
                *self.classes.entry(row.class).or_default() += 1;
                self.mmio_markers += u64::from(is_on_mmio_marker(row));
                self.leaves += u64::from(row.sptep.is_some());
                self.created_by_faults += u64::from(row.created);
            }
            Record::Entry(row) => *self.causes.entry(row.cause).or_default() += 1,
            Record::Page(row) => *self.pages.entry(row.event).or_default() += 1,
            Record::Root(_) => self.roots += 1,
            Record::Mark(_) => self.marks += 1,
            Record::Keyframe(_) => self.keyframe_pages += 1,
            Record::Write(_) => self.writes += 1,
            Record::Host(row) => *self.host.entry(row.event).or_default() += 1,
            Record::Loss(_) => {}
        }
    }

    /// Faults of one class.
    pub fn class(&self, class: Class) -> u64 {
        self.classes.get(&class).copied().unwrap_or_default()
    }

    /// Faults of all classes.
    pub fn faults(&self) -> u64 {
        self.classes.values().sum()
    }

    /// SPTE changes of one cause.
    pub fn cause(&self, cause: Cause) -> u64 {
        self.causes.get(&cause).copied().unwrap_or_default()
    }

    /// Events of one kind in the life of shadow pages.
    pub fn page(&self, event: PageEvent) -> u64 {
        self.pages.get(&event).copied().unwrap_or_default()
    }
}
