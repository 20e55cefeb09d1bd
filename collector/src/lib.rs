//! Records what the shadow MMU of a traced VM does. [`cli`] is the command line.

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
