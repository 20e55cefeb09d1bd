//! What the records after the explained one give.

mod ahead;
mod change;
mod fault;
mod record;

pub(super) use change::change;
pub(super) use fault::fault;
pub(super) use record::record;
