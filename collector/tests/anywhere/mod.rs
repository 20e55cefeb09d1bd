//! Tests that run on any machine.

mod damage;
mod lab;
mod usage;
