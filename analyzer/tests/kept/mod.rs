//! Recordings that the collector really made.

mod accounts;
mod audited;
mod contract;
pub mod copy;
mod explained;
mod exported;
mod fleets;
mod keyframe;
mod links;
mod mappings;
mod recordings;
mod remembered;
mod time_travel;
