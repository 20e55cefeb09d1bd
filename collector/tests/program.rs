//! The programs as a person uses them, and what each test needs: see the three folders.

mod anywhere;
mod kvm;
mod lab;
mod support;
