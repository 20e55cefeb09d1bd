//! A host or a user that cannot record: exit code 3, and the message says what to do.

use std::os::unix::process::CommandExt as _;

use crate::support::{analyzer, collector, expect_code, folder, json, run, stderr};

#[test]
#[ignore = "needs root (to become somebody else)"]
fn kvm_without_root_it_says_so() {
    let folder = folder();
    // Other users may not be allowed into the build folder, so they run a copy.
    let program =
        std::env::temp_dir().join(format!("shadowscope-collector-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_collector"), &program).expect("a copy");
    let mut command = std::process::Command::new(&program);
    command
        .args(["run", "linear", "-o"])
        .arg(folder.path().join("x.trace"))
        .current_dir("/")
        .uid(65534)
        .gid(65534);
    let output = run(&mut command);
    std::fs::remove_file(&program).expect("the copy");
    expect_code(&output, 3);
    assert!(
        stderr(&output).contains("root") && stderr(&output).contains("sudo"),
        "{}",
        stderr(&output)
    );
    assert!(!folder.path().join("x.trace").exists());
}

/// A container without `/sys`: not that the kernel was built without something.
#[test]
#[ignore = "needs root (to hide /sys in a mount namespace)"]
fn kvm_without_sys_it_says_that_it_is_missing() {
    let folder = folder();
    let trace = folder.path().join("x.trace");
    let script = "mount -t tmpfs none /sys && exec \"$@\"";
    for args in [
        &["run", "linear", "-o"][..],
        &["attach", "--all", "-o"],
        &["list"],
        &["doctor"],
    ] {
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(env!("CARGO_BIN_EXE_collector"))
            .args(args);
        if args.contains(&"-o") {
            command.arg(&trace);
        }
        let output = run(&mut command);
        expect_code(&output, 3);
        let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("/sys is empty here"), "{said}");
        assert!(!said.contains("CONFIG_DEBUG_INFO_BTF"), "{said}");
    }
    assert!(!trace.exists());
}

#[test]
#[ignore = "needs root (to hide /dev/kvm in a mount namespace)"]
fn kvm_without_dev_kvm_it_says_what_to_load() {
    let folder = folder();
    let trace = folder.path().join("x.trace");
    let script = "mount -t tmpfs none /dev && exec \"$@\"";
    for (args, word) in [
        (vec!["run", "linear", "-o"], "/dev/kvm"),
        (vec!["doctor"], "modprobe"),
    ] {
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(env!("CARGO_BIN_EXE_collector"))
            .args(&args);
        if args[0] == "run" {
            command.arg(&trace);
        }
        let output = run(&mut command);
        expect_code(&output, 3);
        let said = format!(
            "{}{}",
            stderr(&output),
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(said.contains(word), "{said}");
    }
    assert!(!trace.exists());
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_the_trace_belongs_to_whoever_called_sudo() {
    use std::os::unix::fs::MetadataExt as _;

    let folder = folder();
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).expect("root may");
    let trace = folder.path().join("x.trace");
    let mut command = collector();
    command
        .args(["run", "linear", "-p", "pages=64", "-o"])
        .arg(&trace)
        .env("SUDO_UID", "65534")
        .env("SUDO_GID", "65534");
    expect_code(&run(&mut command), 0);
    for file in ["", "meta.json", "segments.jsonl", "faults/000001.parquet"] {
        let metadata = trace.join(file).metadata().expect("there");
        assert_eq!((metadata.uid(), metadata.gid()), (65534, 65534), "{file}");
        let others = metadata.mode() & 0o077;
        assert_eq!(others, 0, "{file} is for its owner alone");
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_trace_whose_name_is_not_utf8_is_written_and_reported() {
    use std::os::unix::ffi::OsStrExt as _;

    let folder = folder();
    let trace = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"\xff.trace"));
    let of = |command: &mut std::process::Command| json(&run(command.arg(&trace)));
    let args = ["run", "demand", "-p", "pages=16", "--json", "-o"];
    let outcome = of(collector().args(args));
    let name = outcome["recorded"]["trace"].as_str().expect("a name");
    assert!(name.ends_with("/\u{fffd}.trace"), "{name}");
    let summary = of(analyzer().args(["summary", "--json"]));
    assert_eq!(summary["trace"], name);
}
