//! Faults counted, timed, and compared with what KVM counted itself.

mod account;
mod acts;
mod agreement;
mod between;
mod clock;
mod columns;
mod costs;
mod counters;
mod counts;
mod memslots;
mod reconcile;
mod rights;
mod sum;
mod walk;

pub use account::Account;
pub use acts::{ActCost, Acts, meaning_of_act};
pub use agreement::{Agreement, Check, Tally};
pub use between::{Between, BetweenFaults};
pub use clock::GuestClock;
pub use columns::{FaultColumns, FaultStep};
pub use costs::{ClassCost, PhaseCost, StepCost, by_class, by_phase, rank};
pub use counts::Counts;
pub use memslots::{Memslots, SlotsByGpa};
pub use reconcile::{Reconciled, Relation, reconcile};
pub use rights::refuses;
pub use sum::{Seen, Sum, Worst};
pub use walk::{GuestStep, gpa, guest_walk};
