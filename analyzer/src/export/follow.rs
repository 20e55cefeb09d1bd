//! Each record, with what the analyzer knows of it, to a sink.

use std::{cell::RefCell, rc::Rc};

use events::VmId;
use trace::{FaultRow, Record, Trace};

use super::{ExportError, spans};
use crate::{
    listing::FaultFilter,
    refaults::{Options, Refault, Refaults},
    replay::{Totals, VmReplay},
    study::{Follow, Study, Subject},
    verdict,
};

/// What the analyzer knows of a record.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Its VM.
    pub vm: VmId,
    /// The phase it is in; absent before the first mark.
    pub phase: Option<&'a str>,
    /// Of a fault: what made it necessary, if its address was mapped before.
    pub refault: Option<&'a Refault>,
    /// The tables after it; absent where nothing is known of them.
    pub totals: Option<&'a Totals>,
}

/// Lost records, once all gaps are known.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    /// Stretches with missing numbers: from, to (ns), records.
    pub gaps: Vec<spans::Span>,
    /// What each probe counted itself.
    pub probes: Vec<(String, Vec<spans::Span>)>,
    /// When (ns) and why the trace ended before the recording, if it did.
    pub ended: Option<(u64, String)>,
}

/// Takes records for one form of output.
pub trait Sink {
    /// A fault that was asked for.
    fn fault(&mut self, of: &Context<'_>, row: &FaultRow) -> Result<(), ExportError>;

    /// Any other record of the stretch that was asked for.
    fn record(&mut self, of: &Context<'_>, record: &Record) -> Result<(), ExportError> {
        let _ = (of, record);
        Ok(())
    }

    /// There are no more records.
    fn finish(&mut self, lost: &Lost) -> Result<(), ExportError>;
}

/// A sink that the followers of all VMs share.
#[derive(Debug)]
struct Shared<S> {
    sink: S,
    failed: Option<ExportError>,
    faults: u64,
}

impl<S: Sink> Shared<S> {
    /// After an error the rest is not wanted.
    fn give(&mut self, what: impl FnOnce(&mut S) -> Result<(), ExportError>) {
        if self.failed.is_none() {
            self.failed = what(&mut self.sink).err();
        }
    }
}

/// Gives the records of one VM to a sink.
#[derive(Debug)]
pub struct Exporter<S> {
    vm: VmId,
    filter: FaultFilter,
    refaults: Refaults,
    phase: Option<String>,
    shared: Rc<RefCell<Shared<S>>>,
}

/// Makes exporters that share a sink.
#[derive(Debug)]
pub struct Shares<S>(Rc<RefCell<Shared<S>>>);

impl<S: Sink> Exporter<S> {
    /// For a sink.
    pub fn sharing(sink: S) -> Shares<S> {
        Shares(Rc::new(RefCell::new(Shared {
            sink,
            failed: None,
            faults: 0,
        })))
    }

    /// A moment of the filter that did not come.
    pub fn missing(&self) -> Option<crate::table::TableError> {
        self.filter.window.missing()
    }
}

impl<S: Sink> Shares<S> {
    /// For the records of a VM.
    pub fn exporter(&self, subject: &Subject<'_>, filter: &FaultFilter) -> Exporter<S> {
        Exporter {
            vm: subject.vm,
            filter: filter.clone(),
            refaults: Refaults::new(subject, Options::default()),
            phase: None,
            shared: Rc::clone(&self.0),
        }
    }

    /// Ends the output; gives the number of faults in it.
    pub fn finish(&self, trace: &Trace, study: &Study<Exporter<S>>) -> Result<u64, ExportError> {
        let mut shared = self.0.borrow_mut();
        let lost = Lost::of(trace, study);
        shared.give(|sink| sink.finish(&lost));
        match shared.failed.take() {
            Some(error) => Err(error),
            None => Ok(shared.faults),
        }
    }
}

impl Lost {
    fn of<F>(trace: &Trace, study: &Study<F>) -> Self {
        let gaps = study.gaps.gaps().map(|gap| spans::Span {
            ns: [gap.from_time.0, gap.to_time.0],
            records: gap.to.0 - gap.from.0,
        });
        let mut probes: Vec<(String, Vec<spans::Span>)> = Vec::new();
        for row in &study.losses {
            let span = spans::Span {
                ns: [row.from_ns.0, row.time_ns.0],
                records: row.count,
            };
            match probes.iter_mut().find(|(probe, _)| *probe == row.probe) {
                Some((_, of)) => of.push(span),
                None => probes.push((row.probe.clone(), vec![span])),
            }
        }
        for (_, of) in &mut probes {
            *of = spans::apart(std::mem::take(of));
        }
        let ended = match &study.damage {
            Some(damage) => Some(format!("damaged from here on: {damage}")),
            None => verdict::cut(trace).map(|line| line.text),
        };
        Self {
            gaps: spans::apart(gaps.collect()),
            probes,
            ended: ended.map(|why| (study.span_ns[1], why)),
        }
    }
}

impl<S: Sink> Follow for Exporter<S> {
    fn before(&mut self, record: &Record, tables: Option<&VmReplay>) {
        self.refaults.before(record, tables);
    }

    fn after(&mut self, record: &Record, tables: Option<&VmReplay>) {
        self.refaults.after(record, tables);
        if let Record::Mark(row) = record
            && row.ends_keyframe().is_none()
        {
            self.phase = Some(row.name.clone());
        }
        if !self.filter.window.admits(record) {
            return;
        }
        let totals = tables.map(|tables| tables.tables().totals());
        let of = Context {
            vm: self.vm,
            phase: self.phase.as_deref(),
            refault: self.refaults.latest(),
            totals,
        };
        let mut shared = self.shared.borrow_mut();
        match record {
            Record::Fault(row) if self.filter.matches(row) => {
                shared.faults += 1;
                shared.give(|sink| sink.fault(&of, row));
            }
            _ => shared.give(|sink| sink.record(&of, record)),
        }
    }
}
