//! Numbers, tables and bits as text.

mod document;
pub mod flags;
mod grid;
mod table;
pub mod units;
mod wrap;

pub use document::{Document, Section};
pub use grid::{Grid, Kind};
pub use table::{Cell, Column, Filled, Said, Table};
pub use wrap::{columns, fit, wrap};

/// Text of a trace for a terminal: no control characters.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
