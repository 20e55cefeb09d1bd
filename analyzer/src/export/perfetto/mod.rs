//! A trace as Perfetto's TrackEvents.
//!
//! A VM is a process. Below it are its phases, counters of shadow pages and entries, a track of
//! faults with their steps for each vCPU, KVM's acts, and what removed entries: an arrow leads from
//! there to each fault that came of it. Times are `CLOCK_MONOTONIC`, as in the trace.
//!
//! ```text
//! proto   the messages
//! names   names that are written once
//! writer  packets to a file
//! tracks  which tracks there are
//! ```

mod names;
mod proto;
mod tracks;
mod writer;

use std::{collections::BTreeMap, sync::Arc};

use events::{Seq, VmId};
use trace::{ActRow, FaultRow, HostRow, MarkRow, Meta, Record};

use super::{Context, ExportError, Lost, Output, Sink, spans::Span, steps};
use crate::{
    faults::FaultStep,
    refaults::{Refault, Removal},
    replay::Totals,
    symbols::{Symbols, short},
    text::{plain, units::plural},
};

use names::{Arg, Category, act_iid, class_iid, step_iid};
use tracks::{Track, Tracks};
use writer::{Event, Packets};

/// Arrows whose start is not written yet: 16 MiB and 100 bytes for each removal.
const HELD: usize = 1 << 18;

/// What removed entries, and the faults that came of it so far.
#[derive(Debug)]
struct Removed {
    removal: Removal,
    cause: &'static str,
    faults: Vec<Seq>,
}

/// Writes TrackEvents.
#[derive(Debug)]
pub struct Perfetto {
    to: Packets,
    tracks: Tracks,
    symbols: Arc<Symbols>,
    /// The latest values of the counters of each VM: pages, entries.
    totals: BTreeMap<VmId, [u64; 2]>,
    /// VMs in a phase, and when it began.
    phases: BTreeMap<VmId, u64>,
    /// By VM and record.
    removed: BTreeMap<(VmId, Seq), Removed>,
    held: usize,
    /// The latest moment, ns.
    end: u64,
}

impl Perfetto {
    /// Begins a file.
    pub fn new(to: Output, meta: &Meta, symbols: &Arc<Symbols>) -> Result<Self, ExportError> {
        Ok(Self {
            to: Packets::new(to, meta)?,
            tracks: Tracks::new(meta),
            symbols: Arc::clone(symbols),
            totals: BTreeMap::new(),
            phases: BTreeMap::new(),
            removed: BTreeMap::new(),
            held: 0,
            end: 0,
        })
    }

    fn track(&mut self, track: Track) -> Result<u64, ExportError> {
        self.tracks.of(track, &mut self.to)
    }

    fn counters(&mut self, of: &Context<'_>, at_ns: u64) -> Result<(), ExportError> {
        let Some(totals) = of.totals else {
            return Ok(());
        };
        let now = [totals.all_pages(), entries(totals)];
        let before = self.totals.insert(of.vm, now);
        let tracks = [Track::Pages(of.vm), Track::Entries(of.vm)];
        for (at, (track, value)) in tracks.into_iter().zip(now).enumerate() {
            if before.is_none_or(|before| before.get(at) != Some(&value)) {
                let track = self.track(track)?;
                self.to.counter(track, at_ns, value)?;
            }
        }
        Ok(())
    }

    fn described(&self, of: &Context<'_>, row: &FaultRow) -> Event {
        let mut event = Event::named(class_iid(row.class), Category::Fault)
            .number(Arg::Seq, row.seq.0)
            .hex(Arg::Gva, row.gva.0)
            .hex(Arg::Gpa, row.gpa.map(|gpa| gpa.0))
            .hex(Arg::ErrorCode, u64::from(row.error_code.0))
            .hex(Arg::Rip, row.rip.map(|rip| rip.0))
            .hex(Arg::Cr3, row.cr3.0)
            .hex(Arg::Sptep, row.sptep.map(|place| place.0))
            .hex(Arg::Spte, row.spte.map(|spte| spte.0))
            .number(Arg::Level, row.level.map(|level| level.0.into()))
            .number(Arg::Errno, row.errno.map(u64::from));
        if let Some(name) = row.rip.and_then(|rip| self.symbols.place(rip)) {
            event = event.text(Arg::Symbol, short(&name));
        }
        if let Some(refault) = of.refault {
            event = event.text(Arg::RemovedBy, refault.name());
            if let Some(removal) = refault.removal {
                event = event.number(Arg::RemovedSeq, removal.seq.0);
                event = event.flows([self.to.unique(row.seq.0)]);
            }
            if refault.over_gap {
                event = event.flag(Arg::RemovedOverGap, true);
            }
        }
        event
    }

    /// Keeps the start of an arrow until the others of the same removal are known.
    fn hold(&mut self, vm: VmId, refault: &Refault, fault: Seq) -> Result<(), ExportError> {
        let Some(removal) = refault.removal else {
            return Ok(());
        };
        let removed = self.removed.entry((vm, removal.seq));
        let removed = removed.or_insert_with(|| Removed {
            removal,
            cause: refault.name(),
            faults: Vec::new(),
        });
        removed.faults.push(fault);
        self.held += 1;
        match self.held < HELD {
            true => Ok(()),
            false => self.release(),
        }
    }

    /// Writes what is held. A removal that more faults come of is written again with those.
    fn release(&mut self) -> Result<(), ExportError> {
        self.held = 0;
        for ((vm, _), of) in std::mem::take(&mut self.removed) {
            let track = self.track(Track::Removals(vm))?;
            let flows: Vec<_> = of.faults.iter().map(|seq| self.to.unique(seq.0)).collect();
            let event = Event::new(of.cause, Category::Removal)
                .number(Arg::Seq, of.removal.seq.0)
                .text(Arg::What, of.removal.what())
                .flows(flows);
            self.to.instant(track, of.removal.time.0, event)?;
        }
        Ok(())
    }

    fn act(&mut self, vm: VmId, row: &ActRow) -> Result<(), ExportError> {
        let span = span(row.time_ns.0, row.total_ns);
        self.end = self.end.max(span[1]);
        let lane = |at| Track::Acts(vm, row.vcpu, at);
        let lane = self.tracks.lane(span, lane);
        let vcpu = row.vcpu.map_or(0, |vcpu| vcpu.0);
        let track = self.track(lane.ok_or(overlap(vcpu))?)?;
        let event = Event::named(act_iid(row.act), Category::Act)
            .number(Arg::Seq, row.seq.0)
            .number(Arg::Synced, u64::from(row.synced))
            .number(Arg::Zapped, u64::from(row.zapped));
        self.to.slice(track, span, event)
    }

    fn mark(&mut self, vm: VmId, row: &MarkRow) -> Result<(), ExportError> {
        if let Some(keyframe) = row.ends_keyframe() {
            let track = self.track(Track::Keyframes(vm))?;
            let event = Event::new(format!("keyframe {}", keyframe.number), Category::Keyframe)
                .number(Arg::Seq, row.seq.0)
                .number(Arg::Pages, u64::from(keyframe.pages));
            return self.to.instant(track, row.time_ns.0, event);
        }
        let track = self.track(Track::Phases(vm))?;
        // Never before the one that it ends.
        let before = self.phases.get(&vm).copied();
        let at = row.time_ns.0.max(before.unwrap_or_default());
        if before.is_some() {
            self.to.end(track, at)?;
        }
        self.phases.insert(vm, at);
        let event = Event::new(plain(&row.name), Category::Phase).number(Arg::Seq, row.seq.0);
        self.to.begin(track, at, event)
    }

    fn host(&mut self, vm: VmId, row: &HostRow) -> Result<(), ExportError> {
        let track = self.track(Track::Host(vm))?;
        let event = Event::new(row.event.name(), Category::Host)
            .number(Arg::Seq, row.seq.0)
            .number(Arg::Slot, row.slot.map(|slot| slot.0.into()))
            .hex(Arg::Gfn, row.gfn.0)
            .number(Arg::Pages, row.pages);
        self.to.instant(track, row.time_ns.0, event)
    }

    fn lost(&mut self, track: u64, spans: &[Span]) -> Result<(), ExportError> {
        for span in spans {
            let name = format!("{} lost", plural(span.records, "record"));
            let event = Event::new(name, Category::Lost).number(Arg::Records, span.records);
            self.to.slice(track, span.ns, event)?;
        }
        Ok(())
    }
}

impl Sink for Perfetto {
    fn fault(&mut self, of: &Context<'_>, row: &FaultRow) -> Result<(), ExportError> {
        let [from, to] = span(row.time_ns.0, row.total_ns);
        self.end = self.end.max(to);
        let lane = |at| Track::Faults(of.vm, row.vcpu, at);
        let lane = self.tracks.lane([from, to], lane);
        let track = self.track(lane.ok_or(overlap(row.vcpu.0))?)?;
        let event = self.described(of, row);
        self.to.begin(track, from, event)?;
        let steps = steps::placed(row).unwrap_or_default();
        let name = |step: FaultStep| Event::named(step_iid(step), Category::Step);
        for step in &steps {
            let begin = from.saturating_add(step.from);
            let end = begin.saturating_add(step.ns);
            self.to.begin(track, begin, name(step.step))?;
            if let Some((part, ns)) = step.part {
                self.to
                    .slice(track, [end.saturating_sub(ns), end], name(part))?;
            }
            self.to.end(track, end)?;
        }
        self.to.end(track, to)?;
        if let Some(refault) = of.refault {
            self.hold(of.vm, refault, row.seq)?;
        }
        let stored = steps::stored(&steps);
        self.counters(of, stored.map_or(to, |ns| from.saturating_add(ns)))
    }

    fn record(&mut self, of: &Context<'_>, record: &Record) -> Result<(), ExportError> {
        self.end = self.end.max(record.time().0);
        match record {
            Record::Act(row) => self.act(of.vm, row)?,
            Record::Mark(row) => self.mark(of.vm, row)?,
            Record::Host(row) => self.host(of.vm, row)?,
            Record::Fault(_)
            | Record::Entry(_)
            | Record::Page(_)
            | Record::Root(_)
            | Record::Keyframe(_)
            | Record::Write(_)
            | Record::Loss(_) => {}
        }
        match record {
            // A fault that was not asked for.
            Record::Fault(row) => self.counters(of, span(row.time_ns.0, row.total_ns)[1]),
            // Its time is its start.
            Record::Act(row) => self.counters(of, span(row.time_ns.0, row.total_ns)[1]),
            record => self.counters(of, record.time().0),
        }
    }

    fn finish(&mut self, lost: &Lost) -> Result<(), ExportError> {
        for (vm, began) in std::mem::take(&mut self.phases) {
            let track = self.track(Track::Phases(vm))?;
            self.to.end(track, self.end.max(began))?;
        }
        self.release()?;
        if !lost.gaps.is_empty() || lost.ended.is_some() {
            let track = self.track(Track::Lost)?;
            self.lost(track, &lost.gaps)?;
            if let Some((at, why)) = &lost.ended {
                let event = Event::new(why.as_str(), Category::Lost);
                self.to.instant(track, *at, event)?;
            }
        }
        for (at, (probe, spans)) in lost.probes.iter().enumerate() {
            let name = || format!("lost by the probe {}", plain(probe));
            let track = self.tracks.named(Track::Probe(at), &mut self.to, name)?;
            self.lost(track, spans)?;
        }
        self.to.flush()
    }
}

/// From, to, ns.
fn span(time_ns: u64, total_ns: u64) -> [u64; 2] {
    [time_ns, time_ns.saturating_add(total_ns)]
}

/// Leaves and links.
fn entries(totals: &Totals) -> u64 {
    totals.leaves.saturating_add(totals.links)
}

fn overlap(vcpu: u16) -> ExportError {
    ExportError::Overlap {
        vcpu,
        most: tracks::LANES,
    }
}
