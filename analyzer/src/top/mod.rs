//! Who pays: faults added up by the guest's processes, instructions, addresses and tables, by
//! memslot, shadow page, vCPU and cause.
//!
//! ```text
//! by            by what
//! sums          by key, in bounded memory
//! guest_tables  protected, stored to, unsync, synced, protected again
//! follow        the records of a VM to sums
//! rank          the sums in order, with their names
//! causes        by what made them necessary
//! payers        by several keys at once
//! ranges        granules of addresses to ranges
//! text, json    what is printed
//! ```

mod by;
mod causes;
mod follow;
mod guest_tables;
mod json;
mod payers;
mod ranges;
mod rank;
mod sums;
mod text;

pub use by::By;
pub use follow::{Granule, Question, Top};
pub use guest_tables::{GuestTables, PingPong};
pub use json::json;
pub use payers::{Payers, brief, first, tables};
pub use rank::{IN_USER_SPACE, Payer, Rank};
pub use text::{ping_pong, table};
