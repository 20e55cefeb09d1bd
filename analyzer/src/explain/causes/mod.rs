//! What led to a fault, a change or the end of a page, inferred from the facts: as a kind for
//! programs, and in words.

mod change;
mod fault;
mod page;

pub use change::of_change;
pub use fault::of_fault;
pub use page::{never_unsync, new_root};
