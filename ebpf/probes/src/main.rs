//! The kernel side: raw tracepoint programs that follow the shadow MMU of traced VMs,
//! and programs that user space runs itself (`resolve`, `enrol`, `identify`, `follow`, `forget`, `counters`, `mark`, `keyframe`).
//!
//! One file for each kind of record. `vcpus` holds what is known of a fault under way,
//! `ring` is the one way out, `kernel` the one way to read the kernel's structs.
#![no_std]
#![no_main]
#![allow(internal_features, reason = "atomic fetch-and-add, see ring.rs")]
#![feature(core_intrinsics)]

mod counters;
mod entries;
mod faults;
mod kernel;
mod keyframes;
mod marks;
mod pages;
mod ring;
mod running;
mod vcpus;
mod vms;

/// The kernel grants the helpers used here to programs under a licence compatible with its own.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier admits no program that could get here.
    loop {}
}
