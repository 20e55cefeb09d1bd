//! Commands to type next, as the user can type them here.
//!
//! The build calls the two programs `collector` and `analyzer`; a package installs them as
//! `shadowscope-collector` and `shadowscope-analyzer`.

use std::{
    borrow::Cow,
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use crate::privileges;

/// The analyzer's command as the user can type it, for a collector that runs elsewhere: in the lab.
pub const ANALYZER_VARIABLE: &str = "SHADOWSCOPE_ANALYZER";

/// The name by which this program was called.
pub fn name() -> String {
    env::args_os()
        .next()
        .as_deref()
        .and_then(|program| Path::new(program).file_name())
        .unwrap_or(OsStr::new(env!("CARGO_PKG_NAME")))
        .to_string_lossy()
        .into_owned()
}

/// A command of this program: `collector doctor`.
pub fn command(words: &str) -> String {
    format!("{} {words}", name())
}

/// A command that needs root: with `sudo` in front, unless the user is root.
pub fn as_root(command: &str) -> String {
    with_sudo(command, privileges::is_root())
}

/// As [`as_root`], for a user who is root or not.
pub fn with_sudo(command: &str, is_root: bool) -> String {
    if is_root {
        command.to_owned()
    } else {
        format!("sudo {command}")
    }
}

/// A command of the analyzer on a trace: `analyzer summary demand.trace`.
pub fn analyzer_command(command: &str, trace: &Path) -> String {
    format!("{} {command} {}", analyzer(), quoted(trace))
}

/// The analyzer that was installed with this program, as the user can call it; its plain name if
/// there is none.
pub fn analyzer() -> String {
    if let Ok(name) = env::var(ANALYZER_VARIABLE) {
        return name;
    }
    let Ok(program) = env::current_exe() else {
        return "analyzer".to_owned();
    };
    let path: Vec<PathBuf> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    let here = env::current_dir().unwrap_or_default();
    sibling(&program, &path, &here)
}

/// The analyzer in the folder of `program`: by its name alone if `path` leads to it, else by its
/// path, from `here` on if it is below.
fn sibling(program: &Path, path: &[PathBuf], here: &Path) -> String {
    let name = match program.file_name().and_then(OsStr::to_str) {
        Some(name) => name.replace("collector", "analyzer"),
        None => "analyzer".to_owned(),
    };
    let sibling = program.with_file_name(&name);
    if !sibling.is_file() || sibling == program {
        return "analyzer".to_owned();
    }
    let found = path
        .iter()
        .map(|folder| folder.join(&name))
        .find(|found| found.is_file());
    if found.is_some_and(|found| found.canonicalize().ok() == sibling.canonicalize().ok()) {
        return name;
    }
    let shortest = sibling.strip_prefix(here).unwrap_or(&sibling);
    let shortest = match shortest.components().count() {
        // A shell looks up a name without a slash in PATH.
        1 => Path::new(".").join(shortest),
        _ => shortest.to_owned(),
    };
    quoted(&shortest)
}

/// A path as a word for the shell.
pub fn quoted(path: &Path) -> String {
    let word = path.to_string_lossy();
    // Only a NUL cannot be quoted, and no path has one.
    shlex::try_quote(&word).map_or_else(|_| word.to_string(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_analyzer_is_named_as_it_can_be_called() {
        let folder = tempfile::tempdir().expect("a folder");
        let bin = folder.path().join("usr/bin");
        fs::create_dir_all(&bin).expect("a folder");
        let program = bin.join("shadowscope-collector");
        assert_eq!(sibling(&program, &[], folder.path()), "analyzer", "none");

        let analyzer = bin.join("shadowscope-analyzer");
        fs::write(&analyzer, "").expect("a file");
        let name = |path: &[PathBuf], here: &Path| sibling(&program, path, here);
        assert_eq!(
            name(std::slice::from_ref(&bin), folder.path()),
            "shadowscope-analyzer"
        );
        assert_eq!(name(&[], folder.path()), "usr/bin/shadowscope-analyzer");
        assert_eq!(name(&[], &bin), "./shadowscope-analyzer");
        let elsewhere = name(&[], Path::new("/nowhere"));
        assert_eq!(elsewhere, analyzer.to_string_lossy());
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        let quoted = |path: &str| quoted(Path::new(path));
        assert_eq!(quoted("a/b-c.trace"), "a/b-c.trace");
        assert_eq!(quoted("my trace"), "'my trace'");
        assert_eq!(quoted("it's"), "\"it's\"");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn sudo_is_for_those_who_are_not_root() {
        assert_eq!(with_sudo("modprobe kvm", true), "modprobe kvm");
        assert_eq!(with_sudo("modprobe kvm", false), "sudo modprobe kvm");
    }
}
