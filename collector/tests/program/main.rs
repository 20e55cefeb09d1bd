//! The program as a person uses it. Tests named `kvm_*` need root and a shadow MMU; the others
//! run anywhere.

mod attach;
mod cut;
mod foreign;
mod host;
mod observer;
mod support;
mod usage;
mod workloads;
