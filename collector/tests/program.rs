//! The programs as a person uses them, and what each test needs: see the three folders.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and use small numbers"
)]

mod anywhere;
mod kvm;
mod lab;
mod support;
