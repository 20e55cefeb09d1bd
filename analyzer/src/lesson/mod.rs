//! The five steps from a guest address to a shadow entry, as a page to show in class.
//!
//! ```text
//! shipped  the recordings that come with the program
//! exits    how often the same guests exit, with shadow tables and without
//! guest    what one recording says of each step
//! page     the page
//! ```

mod exits;
mod guest;
mod page;
mod shipped;

pub use exits::Exits;
pub use guest::{Guest, LessonError, choose};
pub use page::html;
pub use shipped::{NAMES, Unpacked, unpack};
