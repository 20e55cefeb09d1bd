//! Records what the shadow MMU of a traced VM does.
//!
//! The program `collector` is [`cli`] and nothing else; that is public, so that tools of the build
//! can ask for the command line's definition, and [`fuzz`] is.

// Printing panics where a terminal was closed: `terminal` has what does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]
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
mod confine;
mod doctor;
mod failure;
pub mod fuzz;
mod host;
mod keyframe;
mod lab;
mod privileges;
mod probes;
mod program;
mod record;
mod recording;
mod run;
mod signals;
mod sweep;
mod terminal;
mod top;
mod vmm;
mod vms;
