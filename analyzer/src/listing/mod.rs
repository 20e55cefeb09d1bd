//! Lists of faults and of changes, with the numbers that `explain` takes.
//!
//! ```text
//! faults   faults, the longest first or as they came
//! changes  changes of entries
//! filter   which faults are meant
//! window   from one moment to another
//! first    the first of many, in bounded memory
//! ```

mod changes;
mod faults;
mod filter;
mod first;
mod window;

pub use changes::{ChangeFilter, Changes};
pub use faults::{Faults, Sort};
pub use filter::{FaultFilter, table_of};
pub use window::Window;
