//! Changes of entries by cause over time.

use super::{
    canvas::{Canvas, Drawing, Plot, WIDTH},
    palette,
    time::{self, time_plot},
};
use crate::figures::Timeline;

/// One area for each cause, changes a second; `lost` in seconds.
pub fn causes(timeline: &Timeline, lost: &[(f64, f64)]) -> Drawing {
    Drawing::new(time::height(time::HEIGHT, timeline), |canvas| {
        draw(canvas, timeline, lost)
    })
}

fn draw(canvas: &mut Canvas, timeline: &Timeline, lost: &[(f64, f64)]) {
    let bins = timeline.bins();
    let length = timeline.bin_ns() as f64 / 1e9;
    let starts: Vec<f64> = bins.iter().map(|(start, _)| *start).collect();
    let causes = timeline.causes();
    let legend: Vec<_> = causes
        .iter()
        .map(|cause| (cause.name().to_owned(), palette::cause(*cause)))
        .collect();
    canvas.legend(&legend, (80.0, 14.0), WIDTH - 20.0);
    let areas: Vec<_> = causes
        .iter()
        .map(|cause| {
            let changes = bins.iter().map(|(_, bin)| bin.changes.get(cause));
            let rates = changes.map(|changes| changes.copied().unwrap_or(0) as f64 / length);
            (palette::cause(*cause), rates.collect::<Vec<f64>>())
        })
        .collect();
    let all = |(_, bin): &(f64, crate::figures::Bin)| bin.changes.values().sum::<u64>();
    let most = bins.iter().map(all).max().unwrap_or(0) as f64 / length;
    let plot = Plot {
        place: time_plot(timeline),
        x: [0.0, length * bins.len() as f64],
        y: [0.0, most.max(1.0) * 1.05],
    };
    time::axis(canvas, &plot);
    plot.y_scale(canvas, time::short);
    time::stacked(canvas, &plot, &starts, length, &areas);
    time::lost(canvas, lost, &[plot]);
    time::phases(canvas, timeline, &[plot]);
    plot.ground(canvas);
    plot.title(canvas, "changes a second")
}
