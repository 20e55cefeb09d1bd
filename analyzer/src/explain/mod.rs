//! Explains one thing of a trace: a fault as the five steps from a guest address to a shadow
//! entry, a change of an entry with what led to it, the life of a shadow page, any other record.
//!
//! From records to text: `before` and `after` gather `facts`, `causes` adds what led to them,
//! `story` puts them into sections, `render` makes lines with the phrases of `words`. JSON is the
//! facts.

mod after;
mod before;
mod causes;
mod explanation;
mod facts;
mod find;
#[cfg(test)]
mod hostile;
mod own_work;
mod render;
mod select;
mod story;
mod words;

pub use explanation::{ExplainError, Explanation};
pub use facts::{FaultFacts, Store};
pub use find::{add_bill, find};
#[cfg(test)]
pub(crate) use hostile::records;
pub use select::{Census, Selector};
pub use words::{kernel::why, meaning};
