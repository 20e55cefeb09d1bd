//! A number of each class against a swept parameter.

use plotters::style::RGBColor;

use super::{
    canvas::{Anchor, Canvas, Drawing, Plot, WIDTH},
    palette,
};
use crate::{
    sweep::{Curve, Line},
    text::{
        plain,
        units::{count, duration, whole},
    },
};

const HEIGHT: f64 = 370.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 60.0;
/// Below the legend, which has two rows where there are many classes.
const TOP: f64 = 70.0;
/// Between the bars of two lines at one point.
const DODGE: f64 = 7.0;

/// The lines, with the runs from the lowest to the highest around each point. They have one unit,
/// which `title` names.
pub fn curves(curve: &Curve<'_>, lines: &[Line], title: &str) -> Drawing {
    Drawing::new(HEIGHT, |canvas| draw(canvas, curve, lines, title))
}

/// Values that are all numbers have their place by size; words are placed one after another.
fn places(curve: &Curve<'_>) -> Vec<f64> {
    let numbers: Vec<f64> = curve
        .points
        .iter()
        .filter_map(|(value, _)| value.parse().ok())
        .collect();
    let finite = numbers.iter().all(|number| number.is_finite());
    if numbers.len() == curve.points.len() && finite {
        return numbers;
    }
    (0..curve.points.len()).map(|place| place as f64).collect()
}

fn draw(canvas: &mut Canvas, curve: &Curve<'_>, lines: &[Line], title: &str) {
    let places = places(curve);
    let from = places.iter().copied().fold(f64::MAX, f64::min);
    let to = places.iter().copied().fold(f64::MIN, f64::max);
    let spreads = curve
        .points
        .iter()
        .flat_map(|(_, point)| lines.iter().filter_map(|line| point.line(*line)));
    let most = spreads.map(|spread| spread.high).fold(1.0, f64::max);
    let plot = Plot {
        place: [LEFT, TOP, WIDTH - RIGHT, HEIGHT - 50.0],
        x: [from, to.max(from + 1.0)],
        y: [0.0, most * 1.05],
    };
    let [left, top, right, bottom] = plot.place;
    let legend = lines
        .iter()
        .map(|line| (line.name().to_owned(), colour(*line)));
    canvas.legend(&legend.collect::<Vec<_>>(), (left, 14.0), right);
    let is_time = lines.iter().any(|line| line.is_time());
    plot.y_scale(canvas, |value| match is_time {
        false => count(whole(value)),
        true => duration(value),
    });
    for ((value, _), place) in curve.points.iter().zip(&places) {
        let x = plot.at_x(*place);
        canvas.line(&[(x, top), (x, bottom)], palette::GRID, 1);
        canvas.word(&plain(value), (x, bottom + 16.0), Anchor::Middle);
    }
    canvas.word(
        &plain(curve.over),
        ((left + right) / 2.0, bottom + 36.0),
        Anchor::Middle,
    );
    plot.title(canvas, title);
    for (number, line) in lines.iter().enumerate() {
        let place = Place {
            places: &places,
            after: lines.len() - 1 - number,
            shift: (number as f64 - (lines.len() - 1) as f64 / 2.0) * DODGE,
        };
        draw_line(canvas, &plot, curve, *line, &place);
    }
    plot.ground(canvas)
}

fn colour(line: Line) -> RGBColor {
    match line {
        Line::Class(class, _) => palette::class(class),
        Line::OfRun(_) => palette::INK,
    }
}

/// Where a line is drawn.
struct Place<'a> {
    /// Of each point, on the axis.
    places: &'a [f64],
    /// Lines that are drawn over it. It is so much wider: equal lines are both seen.
    after: usize,
    /// Of its bars from the lowest run to the highest, px.
    shift: f64,
}

fn draw_line(canvas: &mut Canvas, plot: &Plot, curve: &Curve<'_>, of: Line, at: &Place<'_>) {
    let colour = colour(of);
    let wider: u8 = at.after.min(3).try_into().unwrap_or(0);
    let mut line = Vec::new();
    for ((_, point), place) in curve.points.iter().zip(at.places) {
        let Some(spread) = point.line(of) else {
            continue;
        };
        let x = plot.at_x(*place);
        let [low, high] = [spread.low, spread.high].map(|value| plot.at_y(value));
        let bar = x + at.shift;
        canvas.line(&[(bar, low), (bar, high)], colour, 1);
        for end in [low, high] {
            canvas.line(&[(bar - 3.0, end), (bar + 3.0, end)], colour, 1);
        }
        line.push((x, plot.at_y(spread.median)));
    }
    let half = 3.0 + 1.5 * f64::from(wider);
    for (x, y) in &line {
        canvas.rect([x - half, y - half, x + half, y + half], colour);
    }
    line.sort_by(|one, other| one.0.total_cmp(&other.0));
    if line.len() > 1 {
        canvas.line(&line, colour, 2 + 3 * u32::from(wider));
    }
}
