//! What is found in the workloads on a stock kernel: causes of refaults, and pathologies.

use std::{collections::BTreeSet, path::Path};

use super::lab;
use crate::support::{
    expect_code, folder,
    pathologies::{
        HOST_DISCARD, NO_HUGE_PAGE, PING_PONG, Pair, ROOTS_REBUILT, UNSYNC_STORM, ZAP_STORMS,
        discards_are_found,
    },
    refaults::{Bills, Case, DIRTY, FLOOD, MEMSLOT, RECLAIM, RECYCLE, REMAP},
    run, trace_of,
};

/// Records workloads, with one boot.
fn series(out: &Path, items: &BTreeSet<&str>) {
    let mut command = lab();
    command.args(["--timeout", "1800", "--memory", "2000", "-o"]);
    command.arg(out).args(["--", "series"]).args(items);
    expect_code(&run(&mut command), 0);
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_pages_fault_again_for_what_the_workload_did() {
    let cases: Vec<&Case> = REMAP
        .iter()
        .chain([&FLOOD, &RECYCLE, &DIRTY, &MEMSLOT, &RECLAIM])
        .collect();
    let folder = folder();
    let out = folder.path().join("out");
    series(&out, &cases.iter().map(|case| case.item).collect());
    for case in cases {
        (case.check)(&Bills::of(&out.join(trace_of(case.item))));
    }
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_pathologies_are_found_in_workloads_that_have_them() {
    let pairs: Vec<&Pair> = ZAP_STORMS
        .iter()
        .chain([&PING_PONG, &UNSYNC_STORM, &ROOTS_REBUILT, &NO_HUGE_PAGE])
        .collect();
    let folder = folder();
    let out = folder.path().join("out");
    let all = pairs.iter().copied().chain([&HOST_DISCARD]);
    let items = all.flat_map(|pair| [pair.with, pair.without]);
    series(&out, &items.collect());
    let trace = |item| out.join(trace_of(item));
    for pair in pairs {
        pair.check(&trace(pair.with), &trace(pair.without));
    }
    let Pair { with, without, .. } = HOST_DISCARD;
    discards_are_found(&trace(with), &trace(without));
}
