//! Small made-up traces, written by `maker`.

mod browser;
mod demo;
mod diff;
mod errors;
mod lists;
mod report;
mod summary;
mod sweep;
mod views;
mod vms;
