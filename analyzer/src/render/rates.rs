//! Faults a second and shadow entries over time.

use super::{
    canvas::{Anchor, Canvas, Drawing, Plot, WIDTH, width},
    palette, time,
};
use crate::figures::Timeline;

const HEIGHT: f64 = 470.0;
/// Where there are phases.
const PLOTS: [[f64; 4]; 2] = [
    [80.0, 96.0, WIDTH - 20.0, 260.0],
    [80.0, 300.0, WIDTH - 20.0, 420.0],
];
/// A peak this many times as high as all but two in a hundred of the bins with faults is cut off.
const SPIKE: f64 = 4.0;

/// Faults a second, and entries below: left, top, right, bottom, px.
pub fn rates_plots(timeline: &Timeline) -> [[f64; 4]; 2] {
    PLOTS.map(|plot| time::place(plot, timeline))
}

/// Two plots over one another with the same time axis; `lost` in seconds.
pub fn rates(timeline: &Timeline, lost: &[(f64, f64)]) -> Drawing {
    Drawing::new(time::height(HEIGHT, timeline), |canvas| {
        draw(canvas, timeline, lost)
    })
}

fn draw(canvas: &mut Canvas, timeline: &Timeline, lost: &[(f64, f64)]) {
    let bins = timeline.bins();
    let length = timeline.bin_ns() as f64 / 1e9;
    let starts: Vec<f64> = bins.iter().map(|(start, _)| *start).collect();
    let x = [0.0, length * bins.len() as f64];
    let classes = timeline.classes();
    let legend: Vec<_> = classes
        .iter()
        .map(|class| (class.name().to_owned(), palette::class(*class)))
        .collect();
    canvas.legend(&legend, (80.0, 14.0), WIDTH - 20.0);

    let areas: Vec<_> = classes
        .iter()
        .map(|class| {
            let faults = bins.iter().map(|(_, bin)| bin.faults.get(class));
            let rates = faults.map(|faults| faults.copied().unwrap_or(0) as f64 / length);
            (palette::class(*class), rates.collect::<Vec<f64>>())
        })
        .collect();
    let total = |bin: usize| {
        areas
            .iter()
            .filter_map(|(_, values)| values.get(bin))
            .sum::<f64>()
    };
    let totals: Vec<f64> = (0..bins.len()).map(total).collect();
    let (most, peak) = highest(&totals);
    let entries: Vec<f64> = bins
        .iter()
        .map(|(_, bin)| bin.totals.entries() as f64)
        .collect();
    let most_entries = entries.iter().copied().fold(1.0, f64::max);

    let [above, below] = rates_plots(timeline);
    let upper = Plot {
        place: above,
        x,
        y: [0.0, most * 1.05],
    };
    let lower = Plot {
        place: below,
        x,
        y: [0.0, most_entries * 1.1],
    };
    upper.x_scale(canvas, false, |_| String::new());
    time::axis(canvas, &lower);
    upper.y_scale(canvas, time::short);
    lower.y_scale(canvas, time::short);
    time::stacked(canvas, &upper, &starts, length, &areas);
    let entries = time::steps(&lower, &starts, length, &entries);
    canvas.line(&entries, palette::INK, 2);
    time::lost(canvas, lost, &[upper, lower]);
    time::phases(canvas, timeline, &[upper, lower]);
    upper.ground(canvas);
    lower.ground(canvas);
    upper.title(canvas, "faults a second");
    if let Some(bin) = peak {
        cut_off(canvas, &upper, (bin as f64 + 0.5) * length, totals.get(bin));
    }
    lower.title(canvas, "shadow entries")
}

/// The top of the scale, and the highest bin if that is cut off: one spike would flatten the rest.
fn highest(totals: &[f64]) -> (f64, Option<usize>) {
    let most = totals.iter().copied().fold(1.0, f64::max);
    let mut sorted: Vec<f64> = totals
        .iter()
        .copied()
        .filter(|total| *total > 0.0)
        .collect();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted.get(sorted.len() * 98 / 100).copied();
    match usual.filter(|usual| sorted.len() >= 50 && usual * SPIKE < most) {
        Some(usual) => {
            let at = totals.iter().position(|total| *total >= most);
            (usual * 1.5, at)
        }
        None => (most, None),
    }
}

/// A mark at the top of a bin that is higher than the plot, with its value.
fn cut_off(canvas: &mut Canvas, plot: &Plot, seconds: f64, value: Option<&f64>) {
    let (x, top) = (plot.at_x(seconds), plot.place[1]);
    let points = [(x, top - 8.0), (x - 5.0, top), (x + 5.0, top)];
    canvas.polygon(&points, palette::LOST);
    let words = format!(
        "cut off: up to {}",
        time::short(value.map_or(0.0, |v| v.round()))
    );
    let turned = x + 10.0 + width(&words) > plot.place[2];
    let (at, anchor) = match turned {
        true => (x - 10.0, Anchor::End),
        false => (x + 10.0, Anchor::Start),
    };
    canvas.word(&words, (at, top - 4.0), anchor)
}
