//! Python with the packages that `.ci/python` names, which `.ci/setup test` installs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    let analyzer = Path::new(env!("CARGO_MANIFEST_DIR"));
    analyzer.parent().expect("the workspace").to_owned()
}

/// A script of `tests/tools`; gives what it prints.
#[track_caller]
pub fn python(script: &str, args: &[&Path]) -> String {
    let output = Command::new(root().join("target/python/bin/python"))
        .arg(root().join("analyzer/tests/tools").join(script))
        .args(args)
        .output()
        .expect("target/python has Python");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {error}");
    String::from_utf8(output.stdout).expect("text")
}
