//! Facts as lines of text. Only this module knows the width, and wraps.

mod facts;
mod lines;

pub use facts::{stored, value};
pub use lines::Lines;
