//! Builds the guest image for x86_64-unknown-none with the nightly toolchain.
//!
//! The nested cargo uses the same workspace (same lock file, same profile) but another target
//! directory, so that it never waits for the outer cargo's lock.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "x86_64-unknown-none";

/// What the outer cargo, clippy or rustup set for the outer toolchain.
const OUTER_ONLY: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_TARGET",
    // Split into parts, the guests run other instructions: three times as many where KVM-PVM
    // emulates them.
    "CARGO_INCREMENTAL",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let folder = variable("CARGO_MANIFEST_DIR")?;
    for source in [
        "../Cargo.toml",
        "abi/Cargo.toml",
        "abi/src",
        "build.rs",
        "guests/Cargo.toml",
        "guests/src",
    ] {
        println!("cargo::rerun-if-changed={}", folder.join(source).display());
    }
    let target_dir = variable("OUT_DIR")?.join("guests");

    let toolchain = nightly::find()?;
    if let Some(warning) = &toolchain.warning {
        println!("cargo::warning={warning}");
    }
    let manifest = folder.join("guests/Cargo.toml");
    let status = cargo(toolchain.name, &manifest, &target_dir)
        .status()
        .map_err(|error| format!("cannot run `rustup run {} cargo`: {error}", toolchain.name))?;
    if !status.success() {
        return Err(format!(
            "cannot build the guest image with {} ({status}); cargo's output is above",
            toolchain.name
        ));
    }

    let image = target_dir.join(TARGET).join("release/guests");
    if !image.is_file() {
        return Err(format!(
            "the guest build succeeded but did not write {}",
            image.display()
        ));
    }
    println!("cargo::rustc-env=GUEST_IMAGE={}", image.display());
    Ok(())
}

fn cargo(toolchain: &str, manifest: &Path, target_dir: &Path) -> Command {
    let image_base = format!("link-arg=--image-base={:#x}", abi::layout::IMAGE.0);
    let flags = [
        "-C",
        "relocation-model=static",
        "-C",
        &image_base,
        "-C",
        "strip=debuginfo",
    ];
    let mut command = Command::new("rustup");
    command
        .args([
            "run",
            toolchain,
            "cargo",
            "build",
            "--release",
            "--target",
            TARGET,
        ])
        .args(["-Z", "build-std=core,compiler_builtins"])
        .args(["-Z", "build-std-features=compiler-builtins-mem"])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target_dir);
    for name in OUTER_ONLY {
        command.env_remove(name);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    command
}

fn variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name)
        .map(PathBuf::from)
        .ok_or_else(|| format!("cargo did not set {name}"))
}
