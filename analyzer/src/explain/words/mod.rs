//! Names, plurals and phrases.

pub mod bits;
mod class;
pub mod kernel;
mod mode;
mod names;
mod page;

pub use class::{meaning, unwritten};
pub use mode::of_mode;
pub use names::{fault, frames, phase, thread, writer};
pub use page::{page_event, table_state, zap_cause};
