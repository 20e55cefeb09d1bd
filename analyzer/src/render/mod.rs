//! Figures, one file each, as SVG and PNG. Only here is plotters known.

mod canvas;
mod causes;
mod curves;
mod draw;
mod heat;
mod latency;
mod pages;
mod palette;
mod png;
mod rates;
mod share;
mod sides;
mod spaces;
mod steps;
mod time;

pub use canvas::Drawing;
pub use causes::causes;
pub use curves::curves;
pub use heat::{heat, heat_plots};
pub use latency::{latency, latency_places};
pub use pages::pages;
pub use palette::{cause_colour, class_colour, code, heat_colours, level_colour};
pub use rates::{rates, rates_plots};
pub use share::{has_own_bar, share, share_places};
pub use sides::{SideNumbers, medians, totals};
pub use spaces::{space_areas, spaces};
pub use steps::{steps, steps_places};
pub use time::{has_phases, time_plot};

/// A figure could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("while drawing a figure: {why}")]
pub struct RenderError {
    why: String,
}

impl RenderError {
    fn new(why: &str) -> Self {
        let why = why.to_owned();
        Self { why }
    }

    fn drawing(error: impl std::error::Error) -> Self {
        Self::new(&error.to_string())
    }
}
