//! The five steps from a guest address to a shadow entry, as a page to show in class.
//!
//! ```text
//! shipped  the recordings that come with the program
//! exits    how often the same guests exit, with shadow tables and without
//! scan     the fault that is shown, and what came before and after it
//! rows     the tables as each step shows them
//! here     what a step shows, in a sentence
//! answers  what KVM did, hidden until asked
//! guest    all of these of one recording
//! words    words that the lecture may not have
//! page     the page
//! ```

mod answers;
mod exits;
mod guest;
mod here;
mod page;
mod rows;
mod scan;
mod shipped;
mod words;

pub use exits::Exits;
pub use guest::{Guest, LessonError, View, choose};
pub use page::html;
pub use rows::{Cell, Mark, Row};
pub use shipped::{NAMES, Unpacked, unpack};
