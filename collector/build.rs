//! Builds the probes for bpfel-unknown-none with the nightly toolchain.

use anyhow::Context as _;
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> anyhow::Result<()> {
    // The probes are built from these too.
    println!("cargo::rerun-if-changed=../ebpf/events");
    // aya-build turns each line of the inner cargo into a warning.
    // SAFETY: this program has one thread.
    unsafe { std::env::set_var("CARGO_TERM_QUIET", "true") };
    let probes = Package {
        name: "probes",
        root_dir: "../ebpf/probes",
        ..Package::default()
    };
    build_ebpf([probes], Toolchain::default()).context(
        "the probes need a nightly toolchain with the core library's source, and bpf-linker: \
         `rustup toolchain install nightly`, `rustup component add rust-src --toolchain nightly`, \
         `cargo install bpf-linker@0.10.3 --locked` (`make setup` does all of it)",
    )
}
