//! Tests named `kvm_*`: they need root and a shadow MMU (`/dev/kvm`).

mod accounts;
mod attach;
mod bad_days;
mod confined;
mod cut;
mod diff;
mod exact;
mod find;
mod flight;
mod host;
mod killed;
mod losses;
mod many_pages;
mod memory;
mod micro;
mod pathologies;
mod provoked;
mod refaults;
mod stops;
mod sweep;
mod theory;
mod top;
mod tracefs;
mod workloads;
