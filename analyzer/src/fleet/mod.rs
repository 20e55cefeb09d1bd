//! Several traces as one: what of their summaries adds up.
//!
//! Counts and times do. Percentiles do not, nor do addresses of different guests: for those, each
//! trace has its own summary. Times of emulated CPUs are not added to those of real ones.
//!
//! ```text
//! find    the traces in a folder tree
//! merge   the sums
//! tables  what people read
//! ```

mod find;
mod merge;
mod tables;

pub use find::find;
pub use merge::{Fleet, MergedCause, MergedClass, NotRead, TraceLine};
pub use tables::document;
