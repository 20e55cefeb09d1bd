//! The five steps from a guest address to a shadow entry, as a page to show in class.
//!
//! ```text
//! shipped  the recordings that come with the program
//! exits    how often the same guests exit, with shadow tables and without
//! scan     the fault that is shown, and what came after it
//! guest    what one recording says of each step
//! answers  the same in words
//! page     the page
//! ```

mod answers;
mod exits;
mod guest;
mod page;
mod scan;
mod shipped;

pub use exits::Exits;
pub use guest::{Guest, LessonError, choose};
pub use page::html;
pub use shipped::{NAMES, Unpacked, unpack};
