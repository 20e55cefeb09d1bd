//! Every mapping of an address over time: by whom, from when to when, through which shadow page.
//!
//! ```text
//! target   which address
//! paths    from a leaf up to the roots: the addresses that it translates
//! mapping  one mapping, from the record that made it to the one that ended it
//! follow   the records of a VM to mappings
//! text     what is printed
//! ```

mod follow;
#[cfg(test)]
mod hostile;
mod mapping;
mod paths;
mod target;
mod text;

pub use follow::{Find, Span, cr3};
pub use mapping::{Act, Mapping, Moment};
pub use paths::{Path, Paths, paths};
pub use target::Target;
pub use text::{json, table};
