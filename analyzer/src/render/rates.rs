//! Faults a second and shadow entries over time.

use super::{
    RenderError,
    canvas::{Canvas, Plot, WIDTH, svg},
    palette, time,
};
use crate::figures::Timeline;

const HEIGHT: f64 = 470.0;

/// Two plots over one another with the same time axis; `lost` in seconds.
pub fn rates(timeline: &Timeline, lost: &[(f64, f64)]) -> Result<String, RenderError> {
    svg(HEIGHT, |canvas| draw(canvas, timeline, lost))
}

fn draw(canvas: &Canvas<'_>, timeline: &Timeline, lost: &[(f64, f64)]) -> Result<(), RenderError> {
    let bins = timeline.bins();
    let length = timeline.bin_ns() as f64 / 1e9;
    let starts: Vec<f64> = bins.iter().map(|(start, _)| *start).collect();
    let x = [0.0, length * bins.len() as f64];
    let classes = timeline.classes();
    let legend: Vec<_> = classes
        .iter()
        .map(|class| (class.name().to_owned(), palette::class(*class)))
        .collect();
    canvas.legend(&legend, (80.0, 14.0), WIDTH - 20.0)?;

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
    let most = (0..bins.len()).map(total).fold(1.0, f64::max);
    let entries: Vec<f64> = bins
        .iter()
        .map(|(_, bin)| bin.totals.entries() as f64)
        .collect();
    let most_entries = entries.iter().copied().fold(1.0, f64::max);

    let right = WIDTH - 20.0;
    let upper = Plot {
        place: [80.0, 96.0, right, 260.0],
        x,
        y: [0.0, most * 1.05],
    };
    let lower = Plot {
        place: [80.0, 300.0, right, 420.0],
        x,
        y: [0.0, most_entries * 1.1],
    };
    upper.x_scale(canvas, false, |_| String::new())?;
    time::axis(canvas, &lower)?;
    upper.y_scale(canvas, time::short)?;
    lower.y_scale(canvas, time::short)?;
    time::stacked(canvas, &upper, &starts, length, &areas)?;
    let entries = time::steps(&lower, &starts, length, &entries);
    canvas.line(&entries, palette::INK, 2)?;
    time::lost(canvas, lost, &[upper, lower])?;
    time::phases(canvas, timeline, &[upper, lower])?;
    upper.ground(canvas)?;
    lower.ground(canvas)?;
    upper.title(canvas, "faults a second")?;
    lower.title(canvas, "shadow entries")
}
