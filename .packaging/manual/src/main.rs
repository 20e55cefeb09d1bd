//! Writes the manual pages and the shell completions of both programs, for `make dist`.
//!
//! `manual FOLDER` writes below FOLDER what belongs below `/usr/share`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate_to};

/// Manual pages of programs for all users.
const PAGES: &str = "man/man1";

/// Where each shell looks for the completions of an installed program.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/vendor-completions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("usage: manual FOLDER")?;
    for command in programs() {
        write(&command, &folder)?;
    }
    Ok(())
}

/// The programs, with the names that a package installs.
fn programs() -> [Command; 2] {
    [
        (
            collector::cli::Collector::command(),
            "shadowscope-collector",
        ),
        (analyzer::cli::Analyzer::command(), "shadowscope-analyzer"),
    ]
    .map(|(command, name)| command.name(name).bin_name(name).display_name(name))
}

fn write(command: &Command, folder: &Path) -> anyhow::Result<()> {
    let name = command.get_name();
    let pages = make(folder, PAGES)?;
    clap_mangen::generate_to(command.clone(), &pages).with_context(|| {
        format!(
            "cannot write the manual pages of {name} to {}",
            pages.display()
        )
    })?;
    for (shell, place) in COMPLETIONS {
        let place = make(folder, place)?;
        let file = generate_to(shell, &mut command.clone(), name, &place).with_context(|| {
            format!(
                "cannot write the {shell} completions of {name} to {}",
                place.display()
            )
        })?;
        // bash loads the completions of a program from a file of exactly that name.
        if shell == Shell::Bash {
            fs::rename(&file, place.join(name))
                .with_context(|| format!("cannot rename {}", file.display()))?;
        }
    }
    Ok(())
}

fn make(folder: &Path, place: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(place);
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{programs, write};

    /// Every command that `--help` lists has a page and is completed; hidden ones have neither.
    #[test]
    fn every_command_has_a_page_and_completions() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for command in programs() {
            write(&command, folder.path()).expect("written");
            let name = command.get_name();
            let read = |path: String| fs::read_to_string(folder.path().join(path));
            let completions = [
                format!("bash-completion/completions/{name}"),
                format!("zsh/vendor-completions/_{name}"),
                format!("fish/vendor_completions.d/{name}.fish"),
            ]
            .map(|path| read(path).expect("completions"));
            for subcommand in command.get_subcommands() {
                let page = read(format!("man/man1/{name}-{}.1", subcommand.get_name()));
                assert_eq!(page.is_ok(), !subcommand.is_hide_set(), "{subcommand}");
                for text in &completions {
                    let found = text.contains(subcommand.get_name());
                    assert!(found || subcommand.is_hide_set(), "{name} {subcommand}");
                }
            }
        }
    }
}
