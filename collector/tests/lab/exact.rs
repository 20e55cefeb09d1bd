//! Every workload's tables are rebuilt exactly in the lab, with keyframes every 100 ms.

use std::{ffi::OsStr, path::Path, process::Command};

use super::lab;
use crate::support::{
    exact::{Audited, ITEMS, all_exact, soak},
    expect_code, folder, run,
};

/// The traces of these runs, all in one boot of the lab.
pub fn in_the_lab<S: AsRef<OsStr>>(command: Command, items: &[S]) -> Audited {
    let folder = folder();
    record_to(&folder.path().join("out"), command, "0.1", items)
}

/// As [`in_the_lab`], with the traces in this folder, which does not exist yet, and a
/// keyframe after so many seconds.
pub fn record_to<S: AsRef<OsStr>>(
    out: &Path,
    mut command: Command,
    every: &str,
    items: &[S],
) -> Audited {
    command.args(["--timeout", "5400", "-o"]);
    command.arg(out);
    command.args(["--", "series", "--keyframe-every", every]);
    expect_code(&run(command.args(items)), 0);
    all_exact(out, items.len())
}

/// All the traces lie in its memory.
fn roomy() -> Command {
    let mut command = lab();
    command.args(["--memory", "3000"]);
    command
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_every_workload_is_exact_at_three_sizes() {
    in_the_lab(roomy(), ITEMS).every_check_ran();
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_the_soak_is_exact_from_twenty_seeds() {
    in_the_lab(roomy(), &soak(60));
}

/// What KVM-PVM cannot do for the built-in guests.
#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_operations_that_the_host_cannot_do_are_exact() {
    let ops = ["hypercall", "syscall", "syscall-kpti"]
        .map(|op| format!("micro:op={op},ops=512,batches=200"));
    in_the_lab(roomy(), &ops);
}
