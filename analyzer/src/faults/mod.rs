//! Faults counted, timed, and compared with what KVM counted itself.

mod account;
mod acts;
mod agreement;
mod between;
mod clock;
mod costs;
mod counters;
mod counts;
mod fault_times;
mod memslots;
mod reconcile;
mod rights;
mod step;
mod sum;
mod times;
mod walk;

pub use account::Account;
pub use acts::{ActCost, Acts, meaning_of_act};
pub use agreement::{Agreement, Check, Tally};
pub use between::{Between, BetweenFaults};
pub use clock::GuestClock;
pub use costs::{ClassCost, PhaseCost, StepCost, by_class, by_phase, rank};
pub use counts::Counts;
pub use fault_times::FaultTimes;
pub use memslots::{Memslots, SlotsByGpa};
pub use reconcile::{Reconciled, Relation, reconcile};
pub use rights::refuses;
pub use step::FaultStep;
pub(crate) use sum::total;
pub use sum::{Paid, SWITCHED_OUT, Seen, Sum, Worst, own_time_ns, switched_out_ns};
pub use times::{FEW, Times};
pub use walk::{GuestStep, gpa, guest_walk};
