//! A moment of a trace, as it is asked for.

use std::str::FromStr;

use events::Hpa;

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
        "`{text}` is no time: give seconds from the start (1.25s, 30ms, 10us), ns on the trace's clock, or `end`"
    )]
    NoTime {
        /// What was given.
        text: String,
    },
    /// Outside the recording.
    #[error(
        "the trace has no record at that time: it lasts {length:.6} s, on its clock from {start} to {end} ns"
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
    /// No such mark.
    #[error("no phase `{name}` was marked; `analyzer summary` lists the phases")]
    NoPhase {
        /// The name asked for.
        name: String,
    },
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
    let roots: Vec<_> = roots.iter().map(Hpa::to_string).collect();
    if roots.is_empty() {
        "none".to_owned()
    } else {
        roots.join(", ")
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
        for (unit, ns) in [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)] {
            if let Some(number) = text.strip_suffix(unit) {
                let number: f64 = number.trim().parse().map_err(|_| error())?;
                if !(0.0..=1e9).contains(&(number * ns / 1e9)) {
                    return Err(error());
                }
                return Ok(Moment::Since((number * ns) as u64));
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
    /// The time on the trace's clock, for a moment given by time.
    pub(super) fn time(&self, [start, end]: [u64; 2]) -> Result<Option<u64>, TableError> {
        let outside = TableError::Outside {
            start,
            end,
            length: end.saturating_sub(start) as f64 / 1e9,
        };
        let time = match self {
            Moment::Clock(time) => *time,
            Moment::Since(since) => start.saturating_add(*since),
            _ => return Ok(None),
        };
        if time < start || time > end {
            return Err(outside);
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
        for wrong in ["", "s", "-1s", "NaNs", "1e300s", "soon"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }
}
