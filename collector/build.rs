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
    // aya-build turns each line of the inner cargo into a warning. An incremental build would split
    // the probes into parts that the kernel's verifier refuses.
    for (name, value) in [("CARGO_TERM_QUIET", "true"), ("CARGO_INCREMENTAL", "0")] {
        // SAFETY: this program has one thread.
        unsafe { std::env::set_var(name, value) };
    }
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
