//! The program, and the recordings that the project keeps.

mod python;

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

pub use python::python;

/// The program, under the name that hints give.
pub fn analyzer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_analyzer"));
    command.arg0("analyzer");
    command
}

/// A recording that the collector made; its `.origin` file says how.
pub fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recordings")
        .join(name)
}
