//! The catalogue of workloads, and the guest image that runs them.
//!
//! A [`Workload`] describes what it stresses, which parameters it takes and what its trace should
//! look like. [`Workload::plan`] checks the parameters of a user and returns a [`Plan`]: everything
//! that a VMM needs to run it, and what to expect in the trace.
//!
//! Nothing here touches KVM.
//!
//! ```
//! let linear = workloads::find("linear")?;
//! let plan = linear.plan(&[("pages".into(), "512".into())])?;
//! assert_eq!(plan.expected.map(|counts| counts.shadow_faults), Some(512));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "tests use small numbers"
    )
)]

mod catalogue;
mod error;
mod given;
mod host;
mod memory;
mod param;
mod plan;
mod stage;
mod theory;

pub use catalogue::{Workload, all, find};
pub use error::{ParamError, UnknownWorkload};
pub use host::{Actor, Backing, Host, Slot};
pub use param::{Kind, Param, Value};
pub use plan::{Plan, WorkRange};
pub use theory::Counts;

/// The guest image: a static x86-64 ELF executable, built by this crate's build script.
pub const GUEST_IMAGE: &[u8] = include_bytes!(env!("GUEST_IMAGE"));
