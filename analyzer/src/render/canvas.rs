//! Lines, areas and words on an SVG, and scales with round numbers.

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{RenderError, palette};
use crate::text::units::whole;

/// Width of every figure, px.
pub(super) const WIDTH: f64 = 960.0;
/// Size of words, px.
const FONT: i32 = 13;
/// Mean width of a character of that size in common sans-serif fonts, px.
const CHARACTER: f64 = 7.1;

/// A drawing that becomes SVG text.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

/// Where a word is, relative to its point.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Draws a figure of this height and gives the SVG.
pub(super) fn svg(
    height: f64,
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), RenderError>,
) -> Result<String, RenderError> {
    let mut text = String::new();
    {
        let size = [WIDTH, height].map(|px| u32::try_from(whole(px)).unwrap_or(u32::MAX));
        let area = SVGBackend::with_string(&mut text, size.into()).into_drawing_area();
        area.fill(&WHITE).map_err(RenderError::drawing)?;
        let canvas = Canvas { area };
        draw(&canvas)?;
        canvas.area.present().map_err(RenderError::drawing)?;
    }
    Ok(text)
}

/// Width of a text, px, roughly.
pub(super) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

impl Canvas<'_> {
    pub(super) fn rect(
        &self,
        [x0, y0, x1, y1]: [f64; 4],
        colour: RGBColor,
    ) -> Result<(), RenderError> {
        let corners = [(px(x0), px(y0)), (px(x1), px(y1))];
        self.area
            .draw(&Rectangle::new(corners, colour.filled()))
            .map_err(RenderError::drawing)
    }

    pub(super) fn shade(
        &self,
        [x0, y0, x1, y1]: [f64; 4],
        colour: RGBColor,
    ) -> Result<(), RenderError> {
        let corners = [(px(x0), px(y0)), (px(x1.max(x0 + 1.0)), px(y1))];
        self.area
            .draw(&Rectangle::new(corners, colour.mix(0.25).filled()))
            .map_err(RenderError::drawing)
    }

    pub(super) fn polygon(
        &self,
        points: &[(f64, f64)],
        colour: RGBColor,
    ) -> Result<(), RenderError> {
        let points: Vec<_> = points.iter().map(|(x, y)| (px(*x), px(*y))).collect();
        self.area
            .draw(&Polygon::new(points, colour.filled()))
            .map_err(RenderError::drawing)
    }

    pub(super) fn line(
        &self,
        points: &[(f64, f64)],
        colour: RGBColor,
        width: u32,
    ) -> Result<(), RenderError> {
        let points: Vec<_> = points.iter().map(|(x, y)| (px(*x), px(*y))).collect();
        self.area
            .draw(&PathElement::new(points, colour.stroke_width(width)))
            .map_err(RenderError::drawing)
    }

    pub(super) fn word(
        &self,
        text: &str,
        (x, y): (f64, f64),
        anchor: Anchor,
    ) -> Result<(), RenderError> {
        let h_pos = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let style = ("sans-serif", FONT)
            .into_font()
            .color(&palette::INK)
            .pos(Pos::new(h_pos, VPos::Center));
        self.area
            .draw(&Text::new(text.to_owned(), (px(x), px(y)), style))
            .map_err(RenderError::drawing)
    }

    /// Coloured squares with names from `x` on, in as many rows as `until` asks for; gives the
    /// height that they took.
    pub(super) fn legend(
        &self,
        entries: &[(String, RGBColor)],
        (x, y): (f64, f64),
        until: f64,
    ) -> Result<f64, RenderError> {
        let (mut at, mut row) = (x, y);
        for (name, colour) in entries {
            let needed = 16.0 + width(name) + 18.0;
            if at + needed > until && at > x {
                at = x;
                row += 18.0;
            }
            self.rect([at, row - 5.0, at + 11.0, row + 6.0], *colour)?;
            self.word(name, (at + 16.0, row), Anchor::Start)?;
            at += needed;
        }
        Ok(row - y + 18.0)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "no figure is 2^31 pixels wide"
)]
fn px(value: f64) -> i32 {
    value.round() as i32
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
    pub(super) fn y_scale(
        &self,
        canvas: &Canvas<'_>,
        label: impl Fn(f64) -> String,
    ) -> Result<(), RenderError> {
        let [left, _, right, _] = self.place;
        for tick in ticks(self.y, 5) {
            let y = self.at_y(tick);
            canvas.line(&[(left, y), (right, y)], palette::GRID, 1)?;
            canvas.word(&label(tick), (left - 6.0, y), Anchor::End)?;
        }
        Ok(())
    }

    /// Lines and numbers of the horizontal scale.
    pub(super) fn x_scale(
        &self,
        canvas: &Canvas<'_>,
        numbers: bool,
        label: impl Fn(f64) -> String,
    ) -> Result<(), RenderError> {
        let [_, top, _, bottom] = self.place;
        for tick in ticks(self.x, 8) {
            let x = self.at_x(tick);
            canvas.line(&[(x, top), (x, bottom)], palette::GRID, 1)?;
            if numbers {
                canvas.word(&label(tick), (x, bottom + 12.0), Anchor::Middle)?;
            }
        }
        Ok(())
    }

    /// The line at the bottom of the figure.
    pub(super) fn ground(&self, canvas: &Canvas<'_>) -> Result<(), RenderError> {
        let [left, _, right, bottom] = self.place;
        canvas.line(&[(left, bottom), (right, bottom)], palette::INK, 1)
    }

    /// What a scale measures, above the plot's left corner.
    pub(super) fn title(&self, canvas: &Canvas<'_>, text: &str) -> Result<(), RenderError> {
        let [left, top, ..] = self.place;
        canvas.word(text, (left, top - 10.0), Anchor::Start)
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
