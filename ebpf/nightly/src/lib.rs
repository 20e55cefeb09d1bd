//! The nightly toolchain that builds the probes and the guests.
//!
//! The file `version` names it, for `.ci/setup` and for the build scripts of `collector` and
//! `workloads`. Where that one is not installed, the build takes the installed `nightly` and
//! warns.

use std::{path::Path, process::Command};

/// The toolchain that the project is tested with.
pub const PINNED: &str = include_str!("../version").trim_ascii();

/// What the build takes where [`PINNED`] is not installed.
pub const FALLBACK: &str = "nightly";

/// How to install [`PINNED`].
pub fn install() -> String {
    format!("rustup toolchain install {PINNED} --profile minimal --component rust-src")
}

/// Finds the toolchain to build with.
///
/// # Errors
///
/// Neither toolchain has the core library's source. The message has the command that installs it.
pub fn find() -> Result<Toolchain, String> {
    choose(has_core_source)
}

/// What [`find`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// For `rustup run`.
    pub name: &'static str,
    /// Set if this is not [`PINNED`].
    pub warning: Option<String>,
}

fn choose(usable: impl Fn(&str) -> bool) -> Result<Toolchain, String> {
    if usable(PINNED) {
        let (name, warning) = (PINNED, None);
        return Ok(Toolchain { name, warning });
    }
    if usable(FALLBACK) {
        let warning = format!(
            "{PINNED} is not installed, so this builds with `{FALLBACK}`, which is not tested; \
             install the tested one: {}",
            install()
        );
        return Ok(Toolchain {
            name: FALLBACK,
            warning: Some(warning),
        });
    }
    Err(format!(
        "neither {PINNED} nor `{FALLBACK}` is installed with the core library's source: {}",
        install()
    ))
}

/// The toolchain is installed, with what `-Z build-std=core` compiles.
fn has_core_source(toolchain: &str) -> bool {
    let sysroot = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .output();
    sysroot.is_ok_and(|output| {
        let path = String::from_utf8_lossy(&output.stdout);
        let core = Path::new(path.trim()).join("lib/rustlib/src/rust/library/core");
        output.status.success() && core.is_dir()
    })
}

#[cfg(test)]
mod tests {
    use super::{FALLBACK, PINNED, Toolchain, choose};

    #[test]
    fn the_pinned_toolchain_is_a_dated_nightly() {
        let date = PINNED.strip_prefix("nightly-").expect("a nightly");
        let parts: Vec<usize> = date.split('-').map(str::len).collect();
        assert_eq!(parts, [4, 2, 2], "{PINNED}");
    }

    #[test]
    fn the_pinned_toolchain_comes_first() {
        let expected = Toolchain {
            name: PINNED,
            warning: None,
        };
        assert_eq!(choose(|_| true), Ok(expected));
    }

    #[test]
    fn the_fallback_comes_with_a_warning() {
        let found = choose(|name| name == FALLBACK).expect("a toolchain");
        assert_eq!(found.name, FALLBACK);
        assert!(found.warning.is_some_and(|text| text.contains(PINNED)));
    }

    #[test]
    fn without_a_toolchain_the_command_that_installs_it_is_named() {
        let message = choose(|_| false).expect_err("no toolchain");
        assert!(message.contains("rustup toolchain install"), "{message}");
    }
}
