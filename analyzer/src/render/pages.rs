//! Shadow pages by level over time.

use super::{
    canvas::{Canvas, Drawing, Plot, WIDTH},
    palette,
    time::{self, time_plot},
};
use crate::figures::Timeline;

/// One area for each level, and a line for the pages that are unsync; `lost` in seconds.
pub fn pages(timeline: &Timeline, lost: &[(f64, f64)]) -> Drawing {
    Drawing::new(time::height(time::HEIGHT, timeline), |canvas| {
        draw(canvas, timeline, lost)
    })
}

fn draw(canvas: &mut Canvas, timeline: &Timeline, lost: &[(f64, f64)]) {
    let bins = timeline.bins();
    let length = timeline.bin_ns() as f64 / 1e9;
    let starts: Vec<f64> = bins.iter().map(|(start, _)| *start).collect();
    let levels = timeline.levels();
    let mut legend: Vec<_> = (1..=levels)
        .map(|level| (format!("level {level}"), palette::level(level)))
        .collect();
    let unsync: Vec<f64> = bins
        .iter()
        .map(|(_, bin)| bin.totals.unsync as f64)
        .collect();
    let any_unsync = unsync.iter().any(|pages| *pages > 0.0);
    if any_unsync {
        legend.push(("unsync (line)".to_owned(), palette::LOST));
    }
    canvas.legend(&legend, (80.0, 14.0), WIDTH - 20.0);

    let most = bins
        .iter()
        .map(|(_, bin)| bin.totals.all_pages() as f64)
        .fold(1.0, f64::max);
    let areas: Vec<_> = (1..=levels)
        .map(|level| {
            let pages = bins.iter().map(|(_, bin)| bin.totals.pages.get(level - 1));
            let pages = pages.map(|pages| pages.copied().unwrap_or(0) as f64);
            (palette::level(level), pages.collect::<Vec<f64>>())
        })
        .collect();
    let plot = Plot {
        place: time_plot(timeline),
        x: [0.0, length * bins.len() as f64],
        y: [0.0, most * 1.05],
    };
    time::axis(canvas, &plot);
    plot.y_scale(canvas, time::short);
    time::stacked(canvas, &plot, &starts, length, &areas);
    if any_unsync {
        // On a light edge, so that it is seen on every level.
        let line = time::steps(&plot, &starts, length, &unsync);
        canvas.line(&line, plotters::style::WHITE, 6);
        canvas.line(&line, palette::LOST, 3);
    }
    time::lost(canvas, lost, &[plot]);
    time::phases(canvas, timeline, &[plot]);
    plot.ground(canvas);
    plot.title(canvas, "shadow pages")
}
