//! How many records of each kind a VM has.

use std::collections::BTreeMap;

use events::{Cause, Class, Gfn, HostEvent, PageEvent, VcpuId};
use trace::{FaultRow, PageRow, Record};

use crate::replay::VmReplay;

/// `handle_mmio_page_fault` recognised the marker in the shadow entry. After a stale marker comes
/// `kvm_mmu_do_page_fault`, and then one of its steps is seen.
fn is_on_mmio_marker(row: &FaultRow) -> bool {
    let steps = [row.walk_ns, row.pfn_ns, row.tables_ns, row.pfn_tables_ns];
    row.class == Class::Mmio && row.error_code.is_reserved() && steps.iter().all(Option::is_none)
}

/// Records of one VM, counted by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults by class.
    pub classes: BTreeMap<Class, u64>,
    /// Faults on a marker for MMIO (`PFERR_RSVD_MASK`): KVM emulates at once and does not count
    /// them.
    pub mmio_markers: u64,
    /// SPTE changes by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// Events in the life of shadow pages.
    pub pages: BTreeMap<PageEvent, u64>,
    /// The guest's stores that KVM emulated.
    pub writes: u64,
    /// Those of them that came while KVM shadowed any guest table.
    pub writes_while_shadowing: u64,
    /// Entries above the leaf tables that they changed, one for each page that shadows the table
    /// written to; two where the guest's entries may have four bytes.
    pub upper_entries_written: u64,
    /// Stores before the tables of a VM found running were known.
    pub writes_before_tables: u64,
    /// Pages zapped whose table was the target of their vCPU's latest store.
    pub zapped_after_write: u64,
    /// Where each vCPU's latest emulated store went.
    pub written: BTreeMap<VcpuId, Gfn>,
    /// What the host did to ranges of frames.
    pub host: BTreeMap<HostEvent, u64>,
}

impl Counts {
    /// Counts a record; `replay` has applied it.
    pub fn add(&mut self, record: &Record, replay: Option<&VmReplay>) {
        match record {
            Record::Fault(row) => {
                *self.classes.entry(row.class).or_default() += 1;
                self.mmio_markers += u64::from(is_on_mmio_marker(row));
            }
            Record::Entry(row) => *self.causes.entry(row.cause).or_default() += 1,
            Record::Page(row) => self.add_page(row),
            Record::Write(row) => {
                let gfn = row.gpa.gfn();
                self.writes += 1;
                self.written.insert(row.vcpu, gfn);
                if let Some(replay) = replay {
                    self.writes_while_shadowing += u64::from(replay.may_shadow_tables());
                    let each = 1 + u64::from(replay.has_run_on_pae_roots());
                    self.writes_before_tables += u64::from(!replay.knows_the_beginning());
                    // Of other lengths KVM does not read what was stored.
                    if row.bytes == 4 || (row.bytes == 8 && row.value != 0) {
                        self.upper_entries_written += each * replay.tables().upper_pages(gfn);
                    }
                }
            }
            Record::Host(row) => *self.host.entry(row.event).or_default() += 1,
            Record::Root(_)
            | Record::Mark(_)
            | Record::Keyframe(_)
            | Record::Act(_)
            | Record::Loss(_) => {}
        }
    }

    fn add_page(&mut self, row: &PageRow) {
        *self.pages.entry(row.event).or_default() += 1;
        let written = row.vcpu.and_then(|vcpu| self.written.get(&vcpu));
        let after = row.event == PageEvent::Zapped && written == Some(&row.gfn);
        self.zapped_after_write += u64::from(after);
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
