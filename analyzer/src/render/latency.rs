//! How long faults last: a distribution for each class on a common logarithmic axis.

use events::Class;

use super::{
    canvas::{Anchor, Canvas, Drawing, Plot, WIDTH},
    palette, time,
};
use crate::{
    figures::{Distribution, PER_DECADE},
    text::units::{count, ns, whole},
};

const ROW: f64 = 84.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 220.0;

/// A row for each class, its height as a share of the class's own highest bin.
pub fn latency(distributions: &[Distribution]) -> Drawing {
    let height = 40.0 + ROW * distributions.len() as f64 + 40.0;
    Drawing::new(height, |canvas| draw(canvas, distributions))
}

/// The row of each class.
pub fn latency_places(of: &[Distribution]) -> Vec<(Class, [f64; 4])> {
    let row = |(number, of): (usize, &Distribution)| {
        let top = top(number);
        // The scale is below the last.
        let bottom = top + ROW - 22.0 + 12.0;
        (of.class, [0.0, top, WIDTH, bottom])
    };
    of.iter().enumerate().map(row).collect()
}

fn top(number: usize) -> f64 {
    34.0 + ROW * number as f64
}

fn draw(canvas: &mut Canvas, distributions: &[Distribution]) {
    let decade = |bin: &u32| f64::from(*bin) / PER_DECADE;
    let bins = || distributions.iter().flat_map(|of| of.bins.keys());
    let lowest = bins().min().map_or(2.0, |bin| decade(bin).floor());
    let highest = bins()
        .max()
        .map_or(3.0, |bin| decade(&(bin + 1)).ceil())
        .max(lowest + 1.0);
    for (number, of) in distributions.iter().enumerate() {
        let top = top(number);
        let place = [LEFT, top, WIDTH - RIGHT, top + ROW - 22.0];
        let most = of.bins.values().copied().max().unwrap_or(1) as f64;
        let plot = Plot {
            place,
            x: [lowest, highest],
            y: [0.0, most * 1.08],
        };
        row(canvas, &plot, of, number + 1 == distributions.len());
    }
    let words = "p50, p95 and p99 are marked below each";
    canvas.word(words, (LEFT, 14.0), Anchor::Start)
}

fn row(canvas: &mut Canvas, plot: &Plot, of: &Distribution, last: bool) {
    let [left, top, right, bottom] = plot.place;
    for decade in whole(plot.x[0])..=whole(plot.x[1]) {
        let decade = decade as f64;
        let x = plot.at_x(decade);
        canvas.line(&[(x, top), (x, bottom)], palette::GRID, 1);
        if last {
            canvas.word(
                &time::length(10_f64.powf(decade)),
                (x, bottom + 26.0),
                Anchor::Middle,
            );
        }
    }
    let colour = palette::class(of.class);
    for (bin, faults) in &of.bins {
        let from = plot.at_x(f64::from(*bin) / PER_DECADE);
        let to = plot.at_x(f64::from(bin + 1) / PER_DECADE);
        let y = plot.at_y(*faults as f64).min(bottom - 1.0);
        canvas.rect([from, y, (to - 1.0).max(from + 1.0), bottom], colour);
    }
    plot.ground(canvas);
    for (_, percentile) in &of.percentiles {
        let x = plot.at_x(((*percentile).max(1) as f64).log10());
        canvas.polygon(
            &[
                (x, bottom + 2.0),
                (x - 4.0, bottom + 10.0),
                (x + 4.0, bottom + 10.0),
            ],
            palette::INK,
        );
    }
    let middle = (top + bottom) / 2.0;
    canvas.word(of.class.name(), (left - 14.0, middle - 8.0), Anchor::End);
    canvas.word(
        &format!("n {}", count(of.count)),
        (left - 14.0, middle + 9.0),
        Anchor::End,
    );
    for ((name, percentile), place) in of.percentiles.iter().zip([-17.0, 0.0, 17.0]) {
        canvas.word(
            &format!("{name}  {}", ns(*percentile)),
            (right + 24.0, middle + place),
            Anchor::Start,
        );
    }
}
