//! Figures as SVG, one file each. Only here is plotters known.

mod canvas;
mod causes;
mod curves;
mod heat;
mod latency;
mod pages;
mod palette;
mod rates;
mod share;
mod steps;
mod time;

pub use causes::{CAUSES_PLOT, causes};
pub use curves::curves;
pub use heat::{heat, heat_plots};
pub use latency::latency;
pub use pages::{PAGES_PLOT, pages};
pub use palette::{cause_colour, class_colour, heat_colours, level_colour};
pub use rates::{RATES_PLOTS, rates};
pub use share::share;
pub use steps::steps;

/// A figure could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("while drawing a figure: {why}")]
pub struct RenderError {
    why: String,
}

impl RenderError {
    fn drawing(error: impl std::error::Error) -> Self {
        Self {
            why: error.to_string(),
        }
    }
}
