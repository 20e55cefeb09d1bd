//! Which facts in which sections.

mod change;
mod fault;
mod page;
mod record;

pub use change::change;
pub use fault::fault;
pub use page::page;
pub use record::record;
