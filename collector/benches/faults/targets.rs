//! The limits that the figures are judged by.

use crate::{
    figures::{Figures, Target},
    replay::Replay,
};

/// Most that tracing may add to a fault, ns.
const ADDED_NS: f64 = 500.0;
/// Most bytes on disk for a fault, where pages are touched in order, and at random.
const BYTES: [f64; 2] = [12.0, 20.0];
/// Least records that a core replays in a second.
const REPLAY: f64 = 5e6;
/// Most that a shadow table at a moment of a long trace may take, s.
const TABLE_S: f64 = 0.3;
/// Most that a shadow page may add to a keyframe's stop, ns: 100,000 take 50 ms.
const STOP_NS: f64 = 500.0;
/// Most from the start of the collector to the first record, s.
const START_S: f64 = 0.5;

/// Compares each limit with what was measured.
pub fn judge(figures: &Figures) -> Vec<Target> {
    let added = figures.fault_ns.traced.added.median;
    let tracefs = figures.fault_ns.tracefs.added.median;
    let bytes = [&figures.sequential, &figures.random].map(|disk| disk.bytes_a_fault);
    let lost = figures.lost.lost + figures.lost_busy.lost;
    let whole = figures.tracefs_lost == 0;
    let (replay, fast) = match &figures.replay {
        Replay::Measured {
            records_a_second, ..
        } => (
            format!("{:.2} million", records_a_second / 1e6),
            Some(*records_a_second >= REPLAY),
        ),
        Replay::Missing(_) => ("not measured".to_owned(), None),
    };
    vec![
        Target {
            what: "added to a fault",
            reach: format!("at most {ADDED_NS:.0} ns"),
            measured: format!("{added:.0} ns"),
            met: Some(added <= ADDED_NS),
        },
        Target {
            what: "added to a fault, against tracefs",
            reach: format!("below {tracefs:.0} ns"),
            measured: format!("{added:.0} ns"),
            met: whole.then_some(added < tracefs),
        },
        Target {
            what: "on disk for a fault, in order, at random",
            reach: format!("at most {:.0}, {:.0} bytes", BYTES[0], BYTES[1]),
            measured: format!("{:.1}, {:.1} bytes", bytes[0], bytes[1]),
            met: Some(bytes[0] <= BYTES[0] && bytes[1] <= BYTES[1]),
        },
        Target {
            what: "records lost, cores idle or busy",
            reach: "0".to_owned(),
            measured: lost.to_string(),
            met: Some(lost == 0),
        },
        Target {
            what: "records replayed a second",
            reach: format!("at least {:.0} million", REPLAY / 1e6),
            measured: replay,
            met: fast,
        },
        Target {
            what: "table at a moment of a long trace",
            reach: format!("at most {TABLE_S} s"),
            measured: figures.moments.as_ref().map_or_else(
                || "not measured".to_owned(),
                |moments| format!("{:.3} s", moments.seconds.median),
            ),
            met: figures
                .moments
                .as_ref()
                .map(|moments| moments.seconds.median <= TABLE_S),
        },
        Target {
            what: "stopped for a keyframe, a page",
            reach: format!("at most {STOP_NS:.0} ns"),
            measured: format!("{:.0} ns", figures.stops.ns_a_page.median),
            met: Some(figures.stops.ns_a_page.median <= STOP_NS),
        },
        Target {
            what: "start and end of a recording",
            reach: format!("at most {START_S} s"),
            measured: format!("{:.3} s", figures.stops.run_s.median),
            met: Some(figures.stops.run_s.median <= START_S),
        },
    ]
}
