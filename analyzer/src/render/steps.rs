//! Where the time of the mean fault goes: one stacked bar a class.

use events::Class;

use super::{
    canvas::{Anchor, Canvas, Drawing, Plot, WIDTH},
    palette, time,
};
use crate::{
    faults::FaultStep,
    figures::{StepBar, part_name},
    text::units::{count, duration},
};

const ROW: f64 = 46.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 190.0;

/// The bars, longest time first as given.
pub fn steps(bars: &[StepBar]) -> Drawing {
    let height = 70.0 + ROW * bars.len() as f64 + 44.0;
    Drawing::new(height, |canvas| draw(canvas, bars))
}

/// The row of each class.
pub fn steps_places(bars: &[StepBar]) -> Vec<(Class, [f64; 4])> {
    let row = |(number, bar): (usize, &StepBar)| {
        let top = top(number);
        (bar.class, [0.0, top, WIDTH, top + ROW - 18.0])
    };
    bars.iter().enumerate().map(row).collect()
}

fn top(number: usize) -> f64 {
    56.0 + ROW * number as f64 + 9.0
}

fn draw(canvas: &mut Canvas, bars: &[StepBar]) {
    let shown = |step: &FaultStep| {
        bars.iter()
            .any(|bar| bar.steps.iter().any(|(other, _)| other == step))
    };
    let has_parts = |of: FaultStep| {
        let mut parts = FaultStep::ALL.into_iter().filter(shown);
        parts.any(|step| step.part_of() == Some(of))
    };
    let label = |step: FaultStep| part_name(step, has_parts(step));
    let mut legend: Vec<_> = FaultStep::ALL
        .into_iter()
        .filter(shown)
        .map(|step| (label(step), palette::step(step)))
        .collect();
    if bars.iter().any(|bar| bar.rest_ns() > 0.5) {
        legend.push(("in no step of the trace".to_owned(), palette::REST));
    }
    canvas.legend(&legend, (LEFT, 16.0), WIDTH - 20.0);
    let most = bars.iter().map(|bar| bar.mean_ns).fold(1.0, f64::max);
    let bottom = 56.0 + ROW * bars.len() as f64;
    let plot = Plot {
        place: [LEFT, 56.0, WIDTH - RIGHT, bottom],
        x: [0.0, most],
        y: [0.0, 1.0],
    };
    plot.x_scale(canvas, true, time::length);
    for (number, bar) in bars.iter().enumerate() {
        let top = top(number);
        let mut from = 0.0;
        let rest = (bar.rest_ns(), palette::REST);
        let parts = bar
            .steps
            .iter()
            .map(|(step, ns)| (*ns, palette::step(*step)))
            .chain([rest]);
        for (ns, colour) in parts {
            let (start, end) = (plot.at_x(from), plot.at_x(from + ns));
            if end - start >= 0.5 {
                canvas.rect([start, top, end, top + ROW - 18.0], colour);
            }
            from += ns;
        }
        let middle = top + (ROW - 18.0) / 2.0;
        canvas.word(bar.class.name(), (LEFT - 14.0, middle), Anchor::End);
        let words = format!("{}  (n {})", duration(bar.mean_ns), count(bar.count));
        canvas.word(
            &words,
            (plot.at_x(bar.mean_ns) + 10.0, middle),
            Anchor::Start,
        );
    }
    canvas.word("mean time of a fault", (LEFT, bottom + 32.0), Anchor::Start)
}
