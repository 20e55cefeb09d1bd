//! The kernel side: programs on tracepoints and functions that follow the shadow MMU of traced
//! VMs, and programs that user space runs itself (`enrol`, `resolve`, `mark`, `keyframe`, `acted`,
//! and those in `vms`, `counters` and `memslots`).
//!
//! One file for each kind of record. `vcpus` holds what is known of a fault under way, `ring` is
//! the only way out, `kernel` the only way to read the kernel's structs.
#![no_std]
#![no_main]
#![allow(internal_features, reason = "atomic fetch-and-add, see ring.rs")]
#![feature(core_intrinsics)]

mod causes;
mod counters;
mod entries;
mod faults;
mod host;
mod kernel;
mod keyframes;
mod marks;
mod memslots;
mod nested;
mod pages;
mod ring;
mod rmaps;
mod roots;
mod running;
mod steps;
mod switches;
mod unsync;
mod vcpus;
mod vms;
mod writes;

/// The kernel grants the helpers used here to programs under a licence compatible with its own.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier accepts no program that could get here.
    loop {}
}
