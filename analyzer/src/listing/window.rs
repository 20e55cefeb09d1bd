//! The stretch of a trace that a command is asked about.

use events::TimeNs;
use trace::{Record, Trace};

use crate::table::{Moment, TableError};

/// Phases kept for a message.
const KNOWN: usize = 33;

/// From one moment to another, both included. Fed with the records of one VM in order.
#[derive(Clone, Debug, Default)]
pub struct Window {
    from: Option<Edge>,
    to: Option<Edge>,
    /// Faults of the VM so far.
    faults: u64,
    /// Names of its phases, as far as a message lists them.
    phases: Vec<String>,
}

/// One end of a [`Window`].
#[derive(Clone, Debug)]
struct Edge {
    at: At,
    /// A fault or a phase: whether it has come.
    passed: bool,
}

#[derive(Clone, Debug)]
enum At {
    End,
    Time(TimeNs),
    Seq(u64),
    Fault(u64),
    Phase(String),
}

impl Edge {
    fn new(moment: &Moment, trace: &Trace) -> Result<Self, TableError> {
        moment.check(trace)?;
        let at = match (moment, moment.clock(trace)?) {
            (_, Some(time)) => At::Time(TimeNs(time)),
            (Moment::Seq(seq), _) => At::Seq(*seq),
            (Moment::Fault(fault), _) => At::Fault(*fault),
            (Moment::Phase(name), _) => At::Phase(name.clone()),
            (Moment::End | Moment::Clock(_) | Moment::Since(_), _) => At::End,
        };
        Ok(Self { at, passed: false })
    }

    /// Whether the record is the one that a fault's number or a phase's name means.
    fn is(&self, record: &Record, faults: u64) -> bool {
        match (&self.at, record) {
            (At::Fault(number), Record::Fault(_)) => *number == faults,
            (At::Phase(name), Record::Mark(row)) => {
                row.ends_keyframe().is_none() && row.name == *name
            }
            _ => false,
        }
    }
}

impl Window {
    /// Fails if the trace has no such time or number.
    pub fn new(
        from: Option<&Moment>,
        to: Option<&Moment>,
        trace: &Trace,
    ) -> Result<Self, TableError> {
        let edge = |moment: Option<&Moment>| moment.map(|at| Edge::new(at, trace)).transpose();
        Ok(Self {
            from: edge(from)?,
            to: edge(to)?,
            ..Self::default()
        })
    }

    /// From one record to another, both included.
    #[cfg(test)]
    pub(crate) fn of_seqs([from, to]: [u64; 2]) -> Self {
        let edge = |seq| {
            Some(Edge {
                at: At::Seq(seq),
                passed: false,
            })
        };
        Self {
            from: edge(from),
            to: edge(to),
            ..Self::default()
        }
    }

    /// Whether it leaves nothing out.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Takes the next record; whether it is inside.
    #[inline]
    pub fn admits(&mut self, record: &Record) -> bool {
        self.is_whole() || self.is_inside(record)
    }

    fn is_inside(&mut self, record: &Record) -> bool {
        let (seq, time, faults) = (record.seq().0, record.time(), self.faults);
        if let Some(from) = &mut self.from {
            from.passed |= from.is(record, faults);
        }
        let begun = self.from.as_ref().is_none_or(|from| match from.at {
            At::End => false,
            At::Time(at) => time >= at,
            At::Seq(at) => seq >= at,
            At::Fault(_) | At::Phase(_) => from.passed,
        });
        let ended = self.to.as_ref().is_some_and(|to| match to.at {
            At::End => false,
            At::Time(at) => time > at,
            At::Seq(at) => seq > at,
            At::Fault(_) | At::Phase(_) => to.passed,
        });
        if let Some(to) = &mut self.to {
            to.passed |= to.is(record, faults);
        }
        match record {
            Record::Fault(_) => self.faults += 1,
            Record::Mark(row)
                if row.ends_keyframe().is_none()
                    && self.phases.len() < KNOWN
                    && !self.phases.contains(&row.name) =>
            {
                self.phases.push(row.name.clone());
            }
            _ => {}
        }
        begun && !ended
    }

    /// A fault or a phase that did not come, once all records were fed.
    pub fn missing(&self) -> Option<TableError> {
        let edges = [&self.from, &self.to].into_iter().flatten();
        edges
            .filter(|edge| !edge.passed)
            .find_map(|edge| match &edge.at {
                At::Fault(index) => Some(TableError::NoFault {
                    index: *index,
                    faults: self.faults,
                }),
                At::Phase(name) => Some(TableError::NoPhase {
                    name: name.clone(),
                    known: self.phases.clone(),
                }),
                At::End | At::Time(_) | At::Seq(_) => None,
            })
    }
}
