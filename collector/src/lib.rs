//! Records what the shadow MMU of a traced VM does. [`cli`] is the command line.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "tests use small numbers"
    )
)]

mod attach;
pub mod cli;
mod doctor;
mod failure;
mod host;
mod keyframe;
mod lab;
mod privileges;
mod probes;
mod record;
mod recording;
mod run;
mod vmm;
mod vms;
