//! Lines, areas and words, and scales with round numbers.

use plotters::style::{RGBColor, WHITE};

use super::palette;
use crate::text::units::whole;

/// Width of every figure, px.
pub(super) const WIDTH: f64 = 960.0;
/// Mean width of a character in common sans-serif fonts, px.
const CHARACTER: f64 = 7.1;

/// A figure: its shapes, in the order in which they are drawn.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Width and height, px.
    pub(super) size: [u32; 2],
    pub(super) shapes: Vec<Shape>,
}

/// A point, px from the top left corner.
pub(super) type Point = (i32, i32);

#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Two corners, how much of what is below it hides.
    Rect([Point; 2], RGBColor, f64),
    Polygon(Vec<Point>, RGBColor),
    /// Its width, px.
    Line(Vec<Point>, RGBColor, u32),
    Word(String, Point, Anchor),
}

/// Takes the shapes of a figure.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    shapes: Vec<Shape>,
}

/// Where a word is, relative to its point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    /// Draws a figure of this height.
    pub(super) fn new(height: f64, draw: impl FnOnce(&mut Canvas)) -> Self {
        let mut canvas = Canvas::default();
        draw(&mut canvas);
        Self {
            size: [WIDTH, height].map(|px| u32::try_from(whole(px)).unwrap_or(u32::MAX)),
            shapes: canvas.shapes,
        }
    }
}

/// Width of a text, px, roughly.
pub(super) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

impl Canvas {
    pub(super) fn rect(&mut self, [x0, y0, x1, y1]: [f64; 4], colour: RGBColor) {
        let corners = [(px(x0), px(y0)), (px(x1), px(y1))];
        self.shapes.push(Shape::Rect(corners, colour, 1.0));
    }

    pub(super) fn shade(&mut self, [x0, y0, x1, y1]: [f64; 4], colour: RGBColor) {
        let corners = [(px(x0), px(y0)), (px(x1.max(x0 + 1.0)), px(y1))];
        self.shapes.push(Shape::Rect(corners, colour, 0.25));
    }

    pub(super) fn polygon(&mut self, points: &[(f64, f64)], colour: RGBColor) {
        self.shapes.push(Shape::Polygon(pixels(points), colour));
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], colour: RGBColor, width: u32) {
        self.shapes.push(Shape::Line(pixels(points), colour, width));
    }

    pub(super) fn word(&mut self, text: &str, (x, y): (f64, f64), anchor: Anchor) {
        let at = (px(x), px(y));
        self.shapes.push(Shape::Word(text.to_owned(), at, anchor));
    }

    /// Coloured squares with names from `x` on, in as many rows as `until` asks for; gives the
    /// height that they took.
    pub(super) fn legend(
        &mut self,
        entries: &[(String, RGBColor)],
        (x, y): (f64, f64),
        until: f64,
    ) -> f64 {
        let (mut at, mut row) = (x, y);
        for (name, colour) in entries {
            let needed = 16.0 + width(name) + 18.0;
            if at + needed > until && at > x {
                at = x;
                row += 18.0;
            }
            self.rect([at, row - 5.0, at + 11.0, row + 6.0], *colour);
            self.word(name, (at + 16.0, row), Anchor::Start);
            at += needed;
        }
        row - y + 18.0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "no figure is 2^31 pixels wide"
)]
fn px(value: f64) -> i32 {
    value.round() as i32
}

fn pixels(points: &[(f64, f64)]) -> Vec<Point> {
    points.iter().map(|(x, y)| (px(*x), px(*y))).collect()
}

/// A rectangle with a scale on each side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plot {
    /// Left, top, right, bottom, px.
    pub(super) place: [f64; 4],
    /// Lowest and highest x.
    pub(super) x: [f64; 2],
    /// Lowest and highest y.
    pub(super) y: [f64; 2],
}

impl Plot {
    pub(super) fn at_x(&self, x: f64) -> f64 {
        let [left, _, right, _] = self.place;
        scale(x, self.x, [left, right])
    }

    pub(super) fn at_y(&self, y: f64) -> f64 {
        let [_, top, _, bottom] = self.place;
        scale(y, self.y, [bottom, top])
    }

    /// Lines and numbers of the vertical scale.
    pub(super) fn y_scale(&self, canvas: &mut Canvas, label: impl Fn(f64) -> String) {
        let [left, _, right, _] = self.place;
        for tick in ticks(self.y, 5) {
            let y = self.at_y(tick);
            canvas.line(&[(left, y), (right, y)], palette::GRID, 1);
            canvas.word(&label(tick), (left - 6.0, y), Anchor::End);
        }
    }

    /// Lines and numbers of the horizontal scale.
    pub(super) fn x_scale(
        &self,
        canvas: &mut Canvas,
        numbers: bool,
        label: impl Fn(f64) -> String,
    ) {
        let [_, top, _, bottom] = self.place;
        for tick in ticks(self.x, 8) {
            let x = self.at_x(tick);
            canvas.line(&[(x, top), (x, bottom)], palette::GRID, 1);
            if numbers {
                canvas.word(&label(tick), (x, bottom + 12.0), Anchor::Middle);
            }
        }
    }

    /// The line at the bottom of the figure.
    pub(super) fn ground(&self, canvas: &mut Canvas) {
        let [left, _, right, bottom] = self.place;
        canvas.line(&[(left, bottom), (right, bottom)], palette::INK, 1)
    }

    /// What a scale measures, above the plot's left corner.
    pub(super) fn title(&self, canvas: &mut Canvas, text: &str) {
        let [left, top, ..] = self.place;
        // Lines of phases would cross it.
        let end = left + width(text) + 3.0;
        canvas.rect([left - 3.0, top - 18.0, end, top - 3.0], WHITE);
        canvas.word(text, (left, top - 10.0), Anchor::Start);
    }
}

fn scale(value: f64, [from, to]: [f64; 2], [first, last]: [f64; 2]) -> f64 {
    let span = if to > from { to - from } else { 1.0 };
    first + ((value - from) / span).clamp(0.0, 1.0) * (last - first)
}

/// About `wanted` round numbers (1, 2 or 5 times a power of ten) within a range.
pub(super) fn ticks([from, to]: [f64; 2], wanted: usize) -> Vec<f64> {
    let raw = (to - from) / wanted.max(1) as f64;
    if !raw.is_finite() || raw <= 0.0 {
        return vec![from];
    }
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|f| f * power)
        .find(|step| *step >= raw)
        .unwrap_or(raw);
    let first = (from / step).ceil();
    let number = whole((to / step).floor() - first).min(100);
    (0..=number)
        .map(|tick| (first + tick as f64) * step)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks([0.0, 10.0], 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks([0.0, 7.0], 5), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(ticks([0.0, 0.0], 5), [0.0]);
        assert_eq!(ticks([0.0, f64::NAN], 5), [0.0]);
    }
}
