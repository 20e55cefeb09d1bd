//! Invariants of the shadow MMU, checked at every record and every keyframe.
//!
//! ```text
//! check     the invariants, and the kernel's bug that each guards against
//! leaves    a leaf when it is stored: frame, memslot, write protection
//! links     a page against the entry that points to it, and the guest's
//! acts      what an act of the host must remove, until a keyframe shows what it left
//! keyframe  all tables when they are KVM's own
//! report    the result in JSON and tables
//! ```
//!
//! What a trace cannot decide counts as left out, with the reason, and never as right. Records that
//! are missing leave undecided what a later record seems to violate, up to the next keyframe.

mod acts;
mod check;
mod doubt;
mod keyframe;
mod leaves;
mod links;
mod report;
mod roles;
mod slots;
mod spaces;
mod tally;
#[cfg(test)]
mod tests;

use events::{Act, Cause, PageEvent, Spte, VcpuId};
use trace::{EntryRow, FaultRow, PageRow, Record, Sees};

use acts::UnsettledActs;
pub use check::{Check, Why};
pub use doubt::Doubt;
use leaves::Dropped;
use links::Path;
pub use report::{AuditReport, CheckReport, VmAudit, document, help, tables, verdict};
use roles::Roles;
use slots::Slots;
use tally::{NEVER, Now, Tallies, Words};
pub use tally::{Tally, Violation};

use crate::{
    replay::{SeqTime, ShadowTables, VmReplay},
    study::{Follow, StudyError, Subject},
};

/// The audit of one VM.
#[derive(Clone, Debug)]
pub struct Audit {
    roles: Roles,
    slots: Slots,
    sees: Sees,
    tallies: Tallies,
    acts: UnsettledActs,
    /// The way to the latest fault's leaf.
    path: Option<Path>,
    dropped: Option<Dropped>,
    vcpu: Option<VcpuId>,
    has_several_vcpus: bool,
    /// The page of the record that is applied was there before it.
    was_there: bool,
    /// First copy of the latest keyframe that was used: a change after it may not be in the copies.
    keyframe: SeqTime,
    /// First copy of the keyframe that arrives.
    arriving: Option<SeqTime>,
}

impl Audit {
    /// Nothing was read yet.
    pub fn new(subject: &Subject<'_>) -> Self {
        let meta = subject.recording;
        Self {
            roles: Roles::of(&meta.role),
            slots: Slots::of(subject.meta, meta.workload.is_some()),
            sees: meta.sees(),
            tallies: Tallies::default(),
            acts: UnsettledActs::default(),
            path: None,
            dropped: None,
            vcpu: None,
            has_several_vcpus: false,
            was_there: false,
            keyframe: NEVER,
            arriving: None,
        }
    }

    /// What a check found.
    pub fn tally(&self, check: Check) -> &Tally {
        self.tallies.of(check)
    }

    fn at(&mut self, record: &Record) {
        self.tallies.now = Now {
            at: SeqTime {
                seq: record.seq(),
                time: record.time(),
            },
            in_keyframe: false,
            since: self.keyframe,
        };
    }

    /// A marker for MMIO comes into a place.
    fn mmio(&mut self, place: events::Hpa, new: Spte, old: Option<Spte>, vm: &VmReplay) {
        if new.is_shadow_present() || new.is_empty() {
            return;
        }
        let (tables, table) = (vm.tables(), place.table());
        // A PDPTE of a PAE root looks like a marker, and its root may not be known yet.
        if tables.page(table).is_none() || vm.pdptes(table).is_some() {
            return;
        }
        let check = Check::MmioOverPresent;
        let replayed = tables.entry(place).filter(|_| self.sees.every_change);
        let Some(before) = old.or(replayed) else {
            self.tallies.leave_out(check, Why::SilentChanges);
            return;
        };
        let holds = !before.is_shadow_present();
        self.tallies.check(check, holds, place, || {
            let found = format!("{before} was present");
            Words::new("no entry below a marker for MMIO", found)
        });
    }

    fn entry(&mut self, row: &EntryRow, vm: &VmReplay) {
        let tables = vm.tables();
        self.acts.named(row.sptep, row.spte, &mut self.tallies);
        let Some(page) = tables.page(row.sptep.table()) else {
            self.entry_of_no_page(row, tables);
            return;
        };
        if !row.spte.is_shadow_present() {
            self.path = None;
        } else if row.spte.is_leaf(page.info.level) {
            self.leaf(row, page, tables);
        } else {
            self.path = None;
            if row.cause == Cause::Link && !self.sees.every_change {
                // Read without the lock: the entry, or the child, may be another by now.
                self.tallies.leave_out(Check::ChildRole, Why::SilentChanges);
            } else if let Some(child) = tables.page(row.spte.child()) {
                self.link(&page.info, row.sptep, &child.info);
            }
        }
    }

    /// An entry that is stored under `mmu_lock` in a page that was zapped.
    fn entry_of_no_page(&mut self, row: &EntryRow, tables: &ShadowTables) {
        let by_lock = self.sees.every_change && row.cause != Cause::Reread;
        if by_lock && row.spte.is_shadow_present() && tables.is_retired(row.sptep.table()) {
            let check = Check::InvalidRoot;
            self.tallies.violated(check, row.sptep, || {
                let found = format!("{} by {}", row.spte, row.cause.name());
                Words::new("no entry: the page was zapped", found)
            });
        }
    }

    /// The root that a fault stored its leaf for.
    fn root_of(&mut self, row: &FaultRow, vm: &VmReplay) {
        let root = row.root.table();
        // Nothing was zapped since the latest fault on it.
        if self.path.is_some_and(|path| path.is_of(row.root)) {
            self.tallies.holds(Check::InvalidRoot);
            return;
        }
        // A PAE root is no shadow page, but may be where one was.
        let holds = vm.pdptes(root).is_some() || vm.tables().page(root).is_some();
        if !holds && !vm.tables().is_retired(root) {
            self.tallies.leave_out(Check::InvalidRoot, Why::UnknownRoot);
            return;
        }
        self.tallies.check(Check::InvalidRoot, holds, root, || {
            let made = row.created;
            Words::new(
                "a fault given up: its root was zapped",
                format!("a leaf stored below the root, and {made} pages made"),
            )
        });
    }

    fn page(&mut self, row: &PageRow) {
        self.path = None;
        self.acts.page(row, self.was_there, self.roles);
        if row.event != PageEvent::Born && row.event != PageEvent::Reused {
            return;
        }
        let check = Check::InvalidRoot;
        match self.roles.invalid.of(row.role) {
            None => self.tallies.leave_out(check, Why::NoRoleField),
            Some(invalid) => self.tallies.check(check, invalid == 0, row.spt, || {
                let found = format!("a page {} with an invalid role", row.event.name());
                Words::new("no page for a root that was zapped", found)
            }),
        }
    }

    fn vcpu(&mut self, vcpu: VcpuId) {
        self.has_several_vcpus |= self.vcpu.is_some_and(|before| before != vcpu);
        self.vcpu = Some(vcpu);
    }
}

impl Follow for Audit {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        self.was_there = false;
        let Some(vm) = vm else { return };
        match record {
            Record::Page(row) => self.was_there = vm.tables().page(row.spt).is_some(),
            Record::Fault(row) => {
                if let (Some(place), Some(spte)) = (row.sptep, row.spte) {
                    self.at(record);
                    self.mmio(place, spte, None, vm);
                }
            }
            Record::Entry(row) => {
                self.at(record);
                self.mmio(row.sptep, row.spte, row.old, vm);
                self.drops(row, vm.tables());
            }
            Record::Host(row) => {
                self.at(record);
                self.acts
                    .begin(row, vm.tables(), self.sees, &mut self.tallies);
            }
            Record::Write(row) => {
                self.at(record);
                self.acts
                    .store(row, vm.tables(), self.roles, &mut self.tallies);
            }
            _ => {}
        }
    }

    fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        let Some(vm) = vm else { return };
        self.at(record);
        match record {
            Record::Fault(row) => {
                self.vcpu(row.vcpu);
                self.acts.thread_does(Some(row.vcpu));
                self.fault(row, vm);
            }
            Record::Entry(row) => {
                // A deletion drops leaves and zaps pages; these are work of the guest.
                if matches!(row.cause, Cause::GuestWrite | Cause::Sync | Cause::Invlpg) {
                    self.acts.thread_does(row.vcpu);
                }
                self.entry(row, vm);
            }
            Record::Page(row) => self.page(row),
            Record::Keyframe(page) => {
                self.arriving.get_or_insert(self.tallies.now.at);
                self.acts.sees_role(page.role, self.roles);
            }
            Record::Mark(row) => {
                self.acts.thread_does(row.vcpu);
                if row.ends_keyframe().is_none() {
                    return;
                }
                let begun = self.arriving.take().unwrap_or(self.tallies.now.at);
                if vm.last_keyframe() == Some(row.seq) {
                    self.keyframe = begun;
                    self.tallies.now.since = begun;
                    self.path = None;
                    self.keyframe(vm.tables(), begun);
                }
            }
            Record::Write(row) => self.acts.thread_does(Some(row.vcpu)),
            // A keyframe lists roots, and does nothing on a vCPU's thread.
            Record::Root(row) if row.keyframe.is_none() => {
                self.acts.thread_does(Some(row.vcpu));
            }
            // A deletion zaps pages; the end of any other act, or its own, is the end of that.
            Record::Act(row) if row.act != Act::ZapPage => self.acts.thread_does(row.vcpu),
            Record::Root(_) | Record::Host(_) | Record::Act(_) | Record::Loss(_) => {}
        }
    }

    fn finish(&mut self, vm: Option<&VmReplay>, _: Sees) -> Result<(), StudyError> {
        if let Some(vm) = vm {
            self.acts.finish(vm.tables(), &mut self.tallies);
        }
        Ok(())
    }
}
