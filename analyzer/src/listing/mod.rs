//! Lists of faults and of changes, with the numbers that `explain` takes.
//!
//! ```text
//! filter   which are meant
//! window   from one moment to another
//! ```

mod filter;
mod window;

pub use filter::{FaultFilter, table_of};
pub use window::Window;
