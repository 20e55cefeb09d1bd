//! What the tests share: folders, the two programs, their JSON.

pub mod bpf;
pub mod exact;
pub mod pathologies;
pub mod refaults;
pub mod shadow;
pub mod tracefs;
pub mod vmm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Once,
};

use serde_json::Value;
use tempfile::TempDir;

/// The program under test, as root itself would call it: the tests' folders are root's.
pub fn collector() -> Command {
    // What a script runs in the background, as these tests may be, is started with SIGINT ignored,
    // and the program would leave it so.
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the default actions are no code of this process.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.env_remove("SUDO_UID").env_remove("SUDO_GID");
    command
}

/// The analyzer of the same build.
pub fn analyzer() -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_collector")).with_file_name("analyzer");
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --release`",
        path.display()
    );
    Command::new(path)
}

/// A folder for one test.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Runs to the end.
pub fn run(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// What the program said to a person.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails the test with the program's output.
pub fn expect_code(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        stderr(output)
    );
}

/// Standard output as JSON.
pub fn json(output: &Output) -> Value {
    expect_code(output, 0);
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

/// Records a workload; `args` are those of `collector run`.
pub fn record(folder: &TempDir, args: &[&str]) -> (PathBuf, Value) {
    let trace = folder.path().join("w.trace");
    let output = run(collector()
        .arg("run")
        .args(args)
        .arg("--json")
        .arg("-o")
        .arg(&trace));
    (trace, json(&output))
}

/// Records workloads on this host, each to its trace in the folder (see [`trace_of`]).
pub fn series(folder: &Path, items: &[&str]) {
    let mut command = collector();
    command.args(["series", "-o"]).arg(folder).args(items);
    expect_code(&run(&mut command), 0);
}

/// What `collector series` calls the trace of an item.
pub fn trace_of(item: &str) -> String {
    format!("{}.trace", item.replace([':', '/'], "-"))
}

/// `analyzer COMMAND TRACE --json`.
pub fn analyze(command: &str, trace: &Path) -> Value {
    json(&run(analyzer().arg(command).arg(trace).arg("--json")))
}

/// The folder holds these names and nothing else.
pub fn expect_only(folder: &TempDir, names: &[&str]) {
    let mut found: Vec<String> = fs::read_dir(folder.path())
        .expect("readable")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    assert_eq!(found, names);
}

/// `summary` and `verify` refuse the trace, and their messages hold these words.
pub fn refused(trace: &Path, words: &[&str]) {
    for command in ["summary", "verify"] {
        let output = run(analyzer().arg(command).arg(trace));
        expect_code(&output, 1);
        for word in words {
            assert!(
                stderr(&output).contains(word),
                "{command} should say {word:?}: {}",
                stderr(&output)
            );
        }
    }
}
