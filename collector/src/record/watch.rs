//! What a recording waits for, seen in its records while they are written.
//!
//! `analyzer pathologies` finds the same, by the same limits, with the replayed tables. Here the
//! records alone must show it, so that less is found: see [`On`].

use std::collections::{BTreeMap, BTreeSet};

use events::{Class, ErrorCode, Gpa, Gva, Hpa, RoleLayout, Seq, Spte, VcpuId, VmId};
use trace::{
    Batch, EntryRow, Event, FaultRow, KeyframeRow, PageRow,
    pathology::{LIVE_LOCK, REPEATS, ZAP_STORM},
};

use super::zaps::Zaps;

/// What ends a recording that keeps its last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum On {
    /// 16 equal faults of a vCPU in a row, which store nothing or the same entry, no other change on
    /// its thread
    #[value(name = LIVE_LOCK, alias = "live-lock")]
    LiveLock,
    /// 16 shadow pages zapped by one act, or half of all if that is 4, of a VM that runs on: the end
    /// of a VM is none
    #[value(name = ZAP_STORM, alias = "zap-storm")]
    ZapStorm,
    /// SIGUSR1
    Signal,
}

impl On {
    /// Its name in the metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::LiveLock => LIVE_LOCK,
            Self::ZapStorm => ZAP_STORM,
            Self::Signal => "signal",
        }
    }
}

/// Follows the threads of every VM.
#[derive(Debug, Default)]
pub struct Watch {
    live_locks: bool,
    faults: BTreeMap<(VmId, VcpuId), Run>,
    /// `None`: nobody waits for a storm.
    zaps: Option<Zaps>,
}

/// What makes faults equal. An entry that was stored is a part of it: another value is progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Same {
    class: Class,
    rip: Option<Gva>,
    gva: Gva,
    error: ErrorCode,
    cr3: Gpa,
    stored: Option<(Hpa, Spte)>,
    walked: [Option<u64>; 5],
}

#[derive(Clone, Copy, Debug)]
struct Run {
    of: Same,
    faults: u64,
}

enum Item<'a> {
    Fault(&'a FaultRow),
    Entry(&'a EntryRow),
    Page(&'a PageRow),
    Keyframe(&'a KeyframeRow),
}

impl Watch {
    /// For these events; `layout` is that of the recording's roles.
    pub fn new(on: &[On], layout: RoleLayout) -> Self {
        let storms = on.contains(&On::ZapStorm);
        Self {
            live_locks: on.contains(&On::LiveLock),
            zaps: storms.then(|| Zaps::new(layout)),
            ..Self::default()
        }
    }

    /// The first event in a stretch of time.
    pub fn look(&mut self, batch: &Batch) -> Option<Event> {
        if !self.live_locks && self.zaps.is_none() {
            return None;
        }
        let faults = batch.faults.iter().map(|row| (row.seq, Item::Fault(row)));
        let entries = batch.entries.iter().map(|row| (row.seq, Item::Entry(row)));
        let pages = batch.pages.iter().map(|row| (row.seq, Item::Page(row)));
        // The rows of the pages themselves.
        let whole = batch.keyframes.iter().filter(|row| row.index.is_none());
        let whole = whole.map(|row| (row.seq, Item::Keyframe(row)));
        let items = faults.chain(entries).chain(pages).chain(whole);
        let mut items: Vec<(Seq, Item<'_>)> = items.collect();
        items.sort_by_key(|(seq, _)| *seq);
        let mut items = items.into_iter();
        items.find_map(|(_, item)| self.item(item))
    }

    /// See [`Zaps::waits_since`].
    pub fn waits_since(&self) -> Option<u64> {
        self.zaps.as_ref()?.waits_since()
    }

    /// See [`Zaps::looked`].
    pub fn looked(&mut self, time_ns: u64, run: &BTreeSet<VmId>) -> Option<Event> {
        self.zaps.as_mut()?.looked(time_ns, run)
    }

    fn item(&mut self, item: Item<'_>) -> Option<Event> {
        match item {
            Item::Fault(row) => {
                let storm = self.zaps.as_mut().and_then(|zaps| zaps.fault(row));
                storm.or(self.fault(row))
            }
            Item::Entry(row) => {
                if let Some(vcpu) = row.vcpu {
                    self.faults.remove(&(row.vm, vcpu));
                }
                // Another thread may have removed what the fault stored.
                let here = |run: &Run| matches!(run.of.stored, Some((at, _)) if at == row.sptep);
                self.faults
                    .retain(|(vm, _), run| *vm != row.vm || !here(run));
                None
            }
            Item::Page(row) => {
                if let Some(vcpu) = row.vcpu {
                    self.faults.remove(&(row.vm, vcpu));
                }
                self.zaps.as_mut()?.page(row)
            }
            Item::Keyframe(row) => {
                self.zaps.as_mut()?.keyframe(row);
                None
            }
        }
    }

    fn fault(&mut self, row: &FaultRow) -> Option<Event> {
        let thread = (row.vm, row.vcpu);
        // Those do what the instruction does: a store, or a device access.
        if !self.live_locks || matches!(row.class, Class::WriteProtected | Class::Mmio) {
            self.faults.remove(&thread);
            return None;
        }
        let of = Same::of(row);
        let run = self.faults.entry(thread).or_insert(Run { of, faults: 0 });
        if run.of != of {
            *run = Run { of, faults: 0 };
        }
        run.faults += 1;
        (run.faults == REPEATS).then(|| Event {
            on: On::LiveLock.name().to_owned(),
            time_ns: row.time_ns.0,
            vm: Some(row.vm.0),
            seq: Some(row.seq.0),
            what: format!(
                "{REPEATS} equal faults of vCPU {} at gva {}",
                row.vcpu.0, row.gva
            ),
        })
    }
}

impl Same {
    fn of(row: &FaultRow) -> Self {
        let walked = [row.gpte5, row.gpte4, row.gpte3, row.gpte2, row.gpte1];
        Self {
            class: row.class,
            rip: row.rip,
            gva: row.gva,
            error: row.error_code,
            cr3: row.cr3,
            stored: row.sptep.zip(row.spte),
            walked: walked.map(|gpte| gpte.map(|gpte| gpte.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use events::{Cause, Fault, Level, RecordKind, TimeNs};

    use super::*;

    const ON: [On; 2] = [On::LiveLock, On::ZapStorm];

    fn fault(seq: u64, gva: u64) -> Batch {
        let mut raw = Fault::zeroed();
        raw.header.kind = RecordKind::Fault as u16;
        raw.header.seq = Seq(seq);
        raw.class = Class::Spurious as u8;
        raw.gva = Gva(gva);
        let mut batch = Batch::default();
        crate::record::decode::decode(
            bytemuck::bytes_of(&raw),
            &events::RoleLayout::default(),
            |_| String::new(),
            &mut batch,
        )
        .expect("a fault");
        batch
    }

    fn faults(gvas: impl IntoIterator<Item = u64>) -> Vec<Batch> {
        (0..).zip(gvas).map(|(seq, gva)| fault(seq, gva)).collect()
    }

    /// The number of the batch that shows an event.
    fn shown_by(batches: &[Batch]) -> Option<usize> {
        let mut watch = Watch::new(&ON, RoleLayout::default());
        batches.iter().position(|batch| watch.look(batch).is_some())
    }

    #[test]
    fn equal_faults_in_a_row_are_a_live_lock() {
        assert_eq!(shown_by(&faults([7; 15])), None);
        assert_eq!(shown_by(&faults([7; 20])), Some(15));
        let broken = (0..40).map(|at| if at % 10 == 9 { 8 } else { 7 });
        assert_eq!(shown_by(&faults(broken)), None);
    }

    #[test]
    fn a_change_on_the_same_thread_is_progress() {
        let mut batches = faults([7; 20]);
        batches[10].entries.push(EntryRow {
            seq: Seq(10),
            time_ns: TimeNs(0),
            vm: VmId(0),
            vcpu: Some(VcpuId(0)),
            cause: Cause::Sync,
            sptep: Hpa(0),
            spte: Spte(0),
            old: None,
            level: Level(1),
            gfn: None,
        });
        assert_eq!(shown_by(&batches), None);
    }
}
