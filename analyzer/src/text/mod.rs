//! Numbers, columns and bits as text.

pub mod flags;
mod grid;
pub mod units;

pub use grid::{Align, Grid};

/// Text of a trace for a terminal: no control characters.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
