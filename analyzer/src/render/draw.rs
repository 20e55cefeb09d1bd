//! A drawing as SVG and as PNG, by plotters.

use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    RenderError,
    canvas::{Anchor, Drawing, Point, Shape},
    palette, png,
};

/// Size of words, px.
const FONT: u32 = 13;
/// Pixels of a PNG for one of the SVG's: words are sharp on paper.
const SCALE: u8 = 2;
/// The family of all words. In SVG, the reader's program has the font.
const FAMILY: &str = "sans-serif";

impl Drawing {
    /// As SVG.
    pub fn svg(&self) -> Result<String, RenderError> {
        let mut text = String::new();
        let backend = SVGBackend::with_string(&mut text, self.size.into());
        draw(&self.shapes, &backend.into_drawing_area(), 1)?;
        Ok(text)
    }

    /// As PNG, twice as wide and high as the SVG.
    pub fn png(&self) -> Result<Vec<u8>, RenderError> {
        let regular = dejavu::sans::regular();
        let font = register_font(FAMILY, FontStyle::Normal, regular);
        font.map_err(|_| RenderError::new("the built-in font is broken"))?;
        let size = self.size.map(|px| px.saturating_mul(SCALE.into()));
        let [width, height] = size.map(|px| usize::try_from(px).unwrap_or(usize::MAX));
        let mut pixels = vec![0; width.saturating_mul(height).saturating_mul(3)];
        let backend: Result<BitMapBackend<'_>, _> =
            BitMapBackend::with_buffer_and_format(&mut pixels, size.into());
        let area = backend.map_err(RenderError::drawing)?.into_drawing_area();
        draw(&self.shapes, &area, SCALE)?;
        drop(area);
        png::encode(size, &pixels).map_err(RenderError::drawing)
    }
}

fn draw<B: DrawingBackend>(
    shapes: &[Shape],
    area: &DrawingArea<B, Shift>,
    scale: u8,
) -> Result<(), RenderError> {
    area.fill(&WHITE).map_err(RenderError::drawing)?;
    let of = i32::from(scale);
    let at = |(x, y): Point| (x.saturating_mul(of), y.saturating_mul(of));
    let all = |points: &[Point]| points.iter().map(|point| at(*point)).collect::<Vec<_>>();
    for shape in shapes {
        let drawn = match shape {
            Shape::Rect(corners, colour, opacity) => {
                let style = colour.mix(*opacity).filled();
                area.draw(&Rectangle::new(corners.map(at), style))
            }
            Shape::Polygon(points, colour) => {
                area.draw(&Polygon::new(all(points), colour.filled()))
            }
            Shape::Line(points, colour, width) => {
                let style = colour.stroke_width(width.saturating_mul(scale.into()));
                area.draw(&PathElement::new(all(points), style))
            }
            Shape::Word(text, point, anchor) => {
                area.draw(&Text::new(text.as_str(), at(*point), words(*anchor, scale)))
            }
        };
        drawn.map_err(RenderError::drawing)?;
    }
    area.present().map_err(RenderError::drawing)
}

fn words(anchor: Anchor, scale: u8) -> TextStyle<'static> {
    let horizontal = match anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    let font = (FAMILY, FONT.saturating_mul(scale.into())).into_font();
    let style = font.color(&palette::INK);
    style.pos(Pos::new(horizontal, VPos::Center))
}
