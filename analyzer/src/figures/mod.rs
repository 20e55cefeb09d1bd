//! The data of each figure, as plain numbers: nothing here draws.

mod heat;
mod latency;
mod steps;
mod timeline;

pub use heat::{Area, COLUMNS, HeatMap};
pub use latency::{Distribution, PER_DECADE, latency, percentiles};
pub use steps::{StepBar, absent, part_name, steps};
pub use timeline::{Bin, KEPT_PHASES, Phase, Timeline};
