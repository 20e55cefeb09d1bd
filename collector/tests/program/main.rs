//! The program as a person uses it. Tests named `kvm_*` need root and a shadow MMU, tests named
//! `lab_*` need QEMU and a kernel package; the others run anywhere.

mod attach;
mod cut;
mod exact;
mod foreign;
mod host;
mod lab;
mod losses;
mod observer;
mod provoked;
mod support;
mod theory;
mod usage;
mod workloads;
