//! What figures over time have in common: the axis, phases, lost records, stacked areas.

use plotters::style::{RGBColor, WHITE};

use super::{
    canvas::{Anchor, Canvas, Plot, WIDTH, width},
    palette,
};
use crate::{figures::Timeline, text::plain};

/// Rows of phase names above a plot.
const NAME_ROWS: usize = 3;
/// Height of one.
const NAME_HEIGHT: f64 = 15.0;
/// Room for all of them, which a figure without phases does not need.
const NAMES: f64 = 40.0;
/// Height of a figure with one plot that has room for them, and the plot: left, top, right, bottom,
/// px.
pub(super) const HEIGHT: f64 = 330.0;
const PLOT: [f64; 4] = [80.0, 96.0, WIDTH - 20.0, 280.0];
/// With more phases than this, their lines would hide the data: none is drawn.
const MAX_LINES: usize = 40;
/// Longest name drawn.
const NAME_LENGTH: usize = 24;

/// The unit that suits a length of time: its name and its seconds.
pub(super) fn unit(seconds: f64) -> (&'static str, f64) {
    match seconds {
        s if s < 1e-3 => ("us", 1e-6),
        s if s < 1.0 => ("ms", 1e-3),
        _ => ("s", 1.0),
    }
}

/// A number with no more digits than it needs.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// A length of time with no more digits than it needs, ns.
pub(super) fn length(ns: f64) -> String {
    match ns {
        ns if ns < 999.5 => format!("{} ns", number(ns)),
        ns if ns < 999.5e3 => format!("{} us", number(ns / 1e3)),
        ns if ns < 999.5e6 => format!("{} ms", number(ns / 1e6)),
        ns => format!("{} s", number(ns / 1e9)),
    }
}

/// A count with a power of thousand: `250`, `1.5k`, `20M`.
pub(super) fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{}G", number(v / 1e9)),
        v if v >= 1e6 => format!("{}M", number(v / 1e6)),
        v if v >= 1e3 => format!("{}k", number(v / 1e3)),
        v => number(v),
    }
}

/// Lines of phases are drawn.
pub fn has_phases(timeline: &Timeline) -> bool {
    (1..=MAX_LINES).contains(&timeline.phases.len())
}

/// The plot of a figure with one.
pub fn time_plot(timeline: &Timeline) -> [f64; 4] {
    place(PLOT, timeline)
}

/// The height of a figure that has room for names of phases.
pub(super) fn height(height: f64, timeline: &Timeline) -> f64 {
    height - unused(timeline)
}

/// The place of a plot below the names of phases.
pub(super) fn place([left, top, right, bottom]: [f64; 4], timeline: &Timeline) -> [f64; 4] {
    let up = unused(timeline);
    [left, top - up, right, bottom - up]
}

fn unused(timeline: &Timeline) -> f64 {
    match has_phases(timeline) {
        true => 0.0,
        false => NAMES,
    }
}

/// Vertical lines where phases begin, with names in rows above `plots`. A name without room is left
/// out, its line is not.
pub(super) fn phases(canvas: &mut Canvas, timeline: &Timeline, plots: &[Plot]) {
    let (Some(first), Some(last)) = (plots.first(), plots.last()) else {
        return;
    };
    let mut ends = [f64::MIN; NAME_ROWS];
    let mut names = Vec::new();
    for phase in timeline.phases.iter().filter(|_| has_phases(timeline)) {
        let x = first.at_x(timeline.seconds(phase.time_ns));
        let name = timeline.label(phase);
        let name: String = plain(&name).chars().take(NAME_LENGTH).collect();
        // Left of its line where the figure ends.
        let turned = x + 4.0 + width(&name) > first.place[2] + 12.0;
        let (start, end) = if turned {
            (x - 4.0 - width(&name), x)
        } else {
            (x, x + 4.0 + width(&name))
        };
        let row = ends.iter().position(|before| start > *before + 8.0);
        let top = first.place[1] - 28.0;
        let from = match row {
            Some(row) => top - NAME_HEIGHT * row as f64,
            None => first.place[1],
        };
        canvas.line(&[(x, from), (x, last.place[3])], palette::REST, 1);
        if let Some((row, before)) = row.and_then(|row| Some((row, ends.get_mut(row)?))) {
            *before = end;
            let y = top - NAME_HEIGHT * row as f64;
            let (at, anchor) = if turned {
                (x - 4.0, Anchor::End)
            } else {
                (x + 4.0, Anchor::Start)
            };
            names.push((name, (at, y), anchor, [start, end]));
        }
    }
    // Over the lines of other phases.
    for (name, at, anchor, [start, end]) in names {
        let from = if matches!(anchor, Anchor::End) {
            start
        } else {
            at.0
        };
        let to = if matches!(anchor, Anchor::End) {
            at.0
        } else {
            end
        };
        canvas.rect([from, at.1 - 7.0, to, at.1 + 8.0], WHITE);
        canvas.word(&name, at, anchor);
    }
}

/// Shades the spans in which records were lost, given in seconds and in order. Those within one
/// column of pixels are one.
pub(super) fn lost(canvas: &mut Canvas, spans: &[(f64, f64)], plots: &[Plot]) {
    for plot in plots {
        let [_, top, _, bottom] = plot.place;
        for [left, right] in columns(plot, spans) {
            canvas.shade([left, top, right, bottom], palette::LOST);
        }
    }
}

fn columns(plot: &Plot, spans: &[(f64, f64)]) -> Vec<[f64; 2]> {
    let mut columns: Vec<[f64; 2]> = Vec::new();
    for (from, to) in spans {
        let left = plot.at_x(*from).floor();
        let right = plot.at_x(*to).ceil().max(left + 1.0);
        match columns.last_mut() {
            Some([_, end]) if left <= *end => *end = end.max(right),
            _ => columns.push([left, right]),
        }
    }
    columns
}

/// Scale and title of the time axis below a plot.
pub(super) fn axis(canvas: &mut Canvas, plot: &Plot) {
    let [from, to] = plot.x;
    let (unit, seconds) = unit(to);
    let in_unit = Plot {
        x: [from / seconds, to / seconds],
        ..*plot
    };
    in_unit.x_scale(canvas, true, number);
    let [_, _, right, bottom] = plot.place;
    canvas.word(
        &format!("time from the start, {unit}"),
        (right, bottom + 36.0),
        Anchor::End,
    )
}

/// One area on top of the other; each has a value for each of `starts`, which are as far apart as
/// `length`.
pub(super) fn stacked(
    canvas: &mut Canvas,
    plot: &Plot,
    starts: &[f64],
    length: f64,
    areas: &[(RGBColor, Vec<f64>)],
) {
    let mut base = vec![0.0; starts.len()];
    for (colour, values) in areas {
        let top: Vec<f64> = base
            .iter()
            .zip(values)
            .map(|(base, value)| base + value)
            .collect();
        let mut from = 0;
        for run in values.chunk_by(|one, next| (*one > 0.0) == (*next > 0.0)) {
            let of = from..from + run.len();
            from = of.end;
            let parts = (starts.get(of.clone()), top.get(of.clone()), base.get(of));
            // Where there is none, a figure in pixels would have a line.
            if let (Some(starts), Some(top), Some(base)) = parts
                && run.first().is_some_and(|value| *value > 0.0)
            {
                let mut points = steps(plot, starts, length, top);
                let mut below = steps(plot, starts, length, base);
                below.reverse();
                points.extend(below);
                canvas.polygon(&points, *colour);
            }
        }
        base = top;
    }
}

/// The corners of a line that is level within each bin; corners that change nothing are left out.
pub(super) fn steps(plot: &Plot, starts: &[f64], length: f64, values: &[f64]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (start, value) in starts.iter().zip(values) {
        let y = plot.at_y(*value);
        for x in [plot.at_x(*start), plot.at_x(start + length)] {
            if let [.., before, last] = points.as_slice()
                && (before.1, last.1) == (y, y)
            {
                points.pop();
            }
            points.push((x, y));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Phase;

    #[test]
    fn what_is_lost_is_shaded_and_no_more() {
        let plot = Plot {
            place: [0.0, 0.0, 100.0, 10.0],
            x: [0.0, 100.0],
            y: [0.0, 1.0],
        };
        let spans = [(2.1, 2.2), (2.3, 2.4), (50.0, 50.0), (70.5, 90.5)];
        let expected = [[2.0, 3.0], [50.0, 51.0], [70.0, 91.0]];
        assert_eq!(columns(&plot, &spans), expected);
        // Of 10,000 spans, as many as there are columns.
        let many: Vec<_> = (0..10_000)
            .map(|n| (f64::from(n) / 100.0, f64::from(n) / 100.0))
            .collect();
        assert_eq!(columns(&plot, &many).len(), 1);
    }

    #[test]
    fn a_figure_without_phases_has_no_empty_band_for_their_names() {
        let mut timeline = Timeline::new([0, 1000]);
        let plot = [80.0, 96.0, 900.0, 280.0];
        let below = |timeline: &Timeline| (place(plot, timeline)[1], height(330.0, timeline));
        assert_eq!(below(&timeline), (96.0 - NAMES, 330.0 - NAMES));
        let phase = |time_ns| Phase {
            name: "map".to_owned(),
            time_ns,
            seq: time_ns,
            vcpu: None,
        };
        timeline.phases = vec![phase(1)];
        assert_eq!(below(&timeline), (96.0, 330.0));
        timeline.phases = (0..1000).map(phase).collect();
        assert_eq!(below(&timeline), (96.0 - NAMES, 330.0 - NAMES));
    }
}
