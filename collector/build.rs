//! Builds the probes for bpfel-unknown-none with the nightly toolchain.

use anyhow::{Context as _, anyhow};
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> anyhow::Result<()> {
    // The probes are built from these too.
    println!("cargo::rerun-if-changed=../ebpf/events");
    let toolchain = nightly::find().map_err(|message| anyhow!(message))?;
    if let Some(warning) = &toolchain.warning {
        println!("cargo::warning={warning}");
    }
    // aya-build turns each line of the inner cargo into a warning.
    // SAFETY: this program has one thread.
    unsafe { std::env::set_var("CARGO_TERM_QUIET", "true") };
    let probes = Package {
        name: "probes",
        root_dir: "../ebpf/probes",
        ..Package::default()
    };
    build_ebpf([probes], Toolchain::Custom(toolchain.name)).with_context(|| {
        format!(
            "cannot build the probes with {}; they need bpf-linker \
             (`make build` installs it, or `cargo install bpf-linker@0.10.3 --locked`)",
            toolchain.name
        )
    })
}
