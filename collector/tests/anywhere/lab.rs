//! The lab where it cannot run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::support::{collector, expect_code, expect_only, folder, run, stderr};

/// What is missing, what the message must name, and the command that installs it.
#[test]
fn what_the_lab_lacks_is_named_with_the_command_that_installs_it() {
    let folder = folder();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    let refused = |command: &mut Command, words: &[&str]| {
        let output = run(command.current_dir(folder.path()));
        expect_code(&output, 3);
        for word in words {
            assert!(
                stderr(&output).contains(word),
                "{word}: {}",
                stderr(&output)
            );
        }
        expect_only(&folder, &["empty", "package"]);
    };
    let package = package_without_kvm(&folder);

    let words = [
        "qemu-system-x86_64 is in no directory of PATH",
        "apt-get install",
        "qemu-system-x86",
    ];
    refused(
        collector().args(["lab", "linear"]).env("PATH", &empty),
        &words,
    );
    let with_kernel = |kernel: &Path| {
        let mut command = collector();
        command.args(["lab", "linear", "--qemu", "/bin/true", "--kernel"]);
        command.arg(kernel);
        command
    };
    let words = [
        "no kernel image in",
        "apt-get install linux-image-amd64",
        "--kernel",
    ];
    refused(&mut with_kernel(&empty), &words);
    let words = ["no module", "built in"];
    refused(&mut with_kernel(&package), &words);
}

/// An image and an empty folder of modules.
fn package_without_kvm(folder: &TempDir) -> PathBuf {
    let package = folder.path().join("package");
    fs::create_dir_all(package.join("lib/modules/6.1-test/kernel")).expect("a folder");
    fs::create_dir(package.join("boot")).expect("a folder");
    let mut image = vec![0; 0x400];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    image[0x300..0x308].copy_from_slice(b"6.1-test");
    fs::write(package.join("boot/vmlinuz-6.1-test"), image).expect("an image");
    package
}

/// Bochs is looked for only with an Intel CPU, and its CPUs are checked.
#[test]
fn what_an_intel_lab_lacks_is_named_likewise() {
    let folder = folder();
    let refused = |args: &[&str], code: i32, words: &[&str]| {
        let mut command = collector();
        command
            .args(["lab", "linear", "--vendor", "intel"])
            .args(args);
        let output = run(command.env("PATH", folder.path()));
        expect_code(&output, code);
        for word in words {
            let said = stderr(&output);
            assert!(said.contains(word), "{word}: {said}");
        }
    };
    let install = "apt-get install --no-install-recommends bochs bochs-term bochsbios";
    refused(&[], 3, &["bochs is in no directory of PATH", install]);
    let none = folder.path().join("none");
    let none = none.to_str().expect("UTF-8");
    refused(&["--bochs", none], 3, &["while running", "none", install]);
    let words = [
        "does not emulate the CPU corei7_haswell_4770",
        "VMX",
        install,
    ];
    refused(&["--bochs", "/bin/true"], 3, &words);
    expect_only(&folder, &[]);
}

#[test]
fn the_lab_s_own_init_does_nothing_elsewhere() {
    let output: Output = run(collector().arg("lab-guest"));
    expect_code(&output, 2);
    assert!(
        stderr(&output).contains("collector lab"),
        "{}",
        stderr(&output)
    );
}
