//! A moment of a trace, as it is asked for.

use std::{str::FromStr, time::Duration};

use events::Hpa;
use trace::Trace;

use crate::text::plain;

/// Which moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment {
    /// After the last record.
    End,
    /// A time on the trace's clock, ns.
    Clock(u64),
    /// A time from the start, ns.
    Since(u64),
    /// Just after the record of this sequence number.
    Seq(u64),
    /// Just after the fault of this number, from 0.
    Fault(u64),
    /// At the first mark of this name.
    Phase(String),
}

/// What is asked for is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Not a time.
    #[error(
        "`{text}` is not a moment: give seconds from the start (1.25s, 30ms, 10us), ns on the \
         trace's clock, `end`, `phase:NAME`, `fault:N` or `seq:N`"
    )]
    NoTime {
        /// What was given.
        text: String,
    },
    /// Outside the recording.
    #[error(
        "the trace has no record at that time: it lasts {length:.6} s, on its clock from {start} \
         to {end} ns"
    )]
    Outside {
        /// First record, ns.
        start: u64,
        /// Last record, ns.
        end: u64,
        /// Length, seconds.
        length: f64,
    },
    /// No such fault.
    #[error("no fault {index}: the VM has {faults} faults, counted from 0")]
    NoFault {
        /// The number asked for.
        index: u64,
        /// Faults of the VM.
        faults: u64,
    },
    /// After the last record.
    #[error("no record {seq}: the last one of the trace is seq {last}")]
    NoSeq {
        /// The number asked for.
        seq: u64,
        /// The highest there is.
        last: u64,
    },
    /// No such mark.
    #[error("no phase `{}` was marked; the phases are {}", plain(.name), phases(.known))]
    NoPhase {
        /// The name asked for.
        name: String,
        /// The phases of the VM.
        known: Vec<String>,
    },
    /// The second of two moments comes first.
    #[error("the first moment is after the second: give the earlier one first")]
    Backwards,
    /// No such page.
    #[error("no shadow page {root} at that moment; the roots are {}", list(.known))]
    NoRoot {
        /// The page asked for.
        root: Hpa,
        /// The roots there are.
        known: Vec<Hpa>,
    },
}

fn list(roots: &[Hpa]) -> String {
    or_none(roots.iter().map(Hpa::to_string).collect())
}

/// Phases listed in a message.
const LISTED: usize = 32;

fn phases(names: &[String]) -> String {
    let mut words: Vec<_> = names.iter().take(LISTED).map(|name| plain(name)).collect();
    if names.len() > LISTED {
        words.push("others".to_owned());
    }
    or_none(words)
}

fn or_none(words: Vec<String>) -> String {
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

impl FromStr for Moment {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        let error = || TableError::NoTime {
            text: text.to_owned(),
        };
        if text == "end" {
            return Ok(Moment::End);
        }
        if let Some(name) = text.strip_prefix("phase:") {
            return Ok(Moment::Phase(name.to_owned()));
        }
        if let Some(number) = text.strip_prefix("fault:") {
            return number.parse().map(Moment::Fault).map_err(|_| error());
        }
        if let Some(number) = text.strip_prefix("seq:") {
            return number.parse().map(Moment::Seq).map_err(|_| error());
        }
        for (unit, seconds) in [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0)] {
            if let Some(number) = text.strip_suffix(unit) {
                let number: f64 = number.trim().parse().map_err(|_| error())?;
                let since = Duration::try_from_secs_f64(number * seconds).map_err(|_| error())?;
                let ns = u64::try_from(since.as_nanos()).map_err(|_| error())?;
                return Ok(Moment::Since(ns));
            }
        }
        // A fraction can only be seconds; a whole number is the trace's clock.
        match text.parse() {
            Ok(clock) => Ok(Moment::Clock(clock)),
            Err(_) if text.contains('.') => {
                format!("{text}s").parse().map_err(|_: TableError| error())
            }
            Err(_) => Err(error()),
        }
    }
}

impl Moment {
    /// Fails if the trace ends before the moment, as far as its list of segments says.
    pub(crate) fn check(&self, trace: &Trace) -> Result<(), TableError> {
        let last = trace.segments().iter().map(|segment| segment.seq[1]).max();
        match (self, last) {
            (Moment::Seq(seq), Some(last)) if *seq > last => {
                Err(TableError::NoSeq { seq: *seq, last })
            }
            _ => self.clock(trace).map(|_| ()),
        }
    }

    /// The time on the trace's clock, for a moment given by time, ns.
    pub(crate) fn clock(&self, trace: &Trace) -> Result<Option<u64>, TableError> {
        let [start, end] = trace.span_ns().unwrap_or_default();
        let time = match self {
            Moment::Clock(time) => *time,
            Moment::Since(since) => start.saturating_add(*since),
            _ => return Ok(None),
        };
        if time < start || time > end {
            return Err(TableError::Outside {
                start,
                end,
                length: end.saturating_sub(start) as f64 / 1e9,
            });
        }
        Ok(Some(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!("end".parse::<Moment>().unwrap(), Moment::End);
        assert_eq!(
            "1.25s".parse::<Moment>().unwrap(),
            Moment::Since(1_250_000_000)
        );
        assert_eq!("30ms".parse::<Moment>().unwrap(), Moment::Since(30_000_000));
        assert_eq!("123456".parse::<Moment>().unwrap(), Moment::Clock(123_456));
        assert_eq!("seq:7".parse::<Moment>().unwrap(), Moment::Seq(7));
        assert_eq!("fault:7".parse::<Moment>().unwrap(), Moment::Fault(7));
        let phase = Moment::Phase("touch".to_owned());
        assert_eq!("phase:touch".parse::<Moment>().unwrap(), phase);
        for wrong in ["", "s", "seq:", "fault:-1", "-1s", "NaNs", "1e300s", "soon"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }
}
