//! What is wrong: each pathology is found in a workload that has it, and not in one that has not.

use crate::support::{
    analyze, folder,
    pathologies::{
        HOST_DISCARD, HUGE_PAGES, LIVE_LOCK, NO_HUGE_PAGE, PING_PONG, Pair, ROOTS_REBUILT,
        UNSYNC_STORM, UNUSED_PREFETCH, ZAP_STORMS,
    },
    record, series, trace_of,
};

fn check(pairs: &[Pair]) {
    for pair in pairs {
        let folder = folder();
        series(folder.path(), &[pair.with, pair.without]);
        let trace = |item| folder.path().join(trace_of(item));
        pair.check(&trace(pair.with), &trace(pair.without));
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_zap_storms_are_found() {
    check(ZAP_STORMS);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_ping_pong_of_guest_tables_is_found() {
    check(&[PING_PONG]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_syncs_of_many_tables_are_found() {
    check(&[UNSYNC_STORM]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_memory_that_the_host_discards_and_the_guest_uses_is_found() {
    check(&[HOST_DISCARD]);
}

/// Which entries the guest used only keyframes show: many, since one shows what was prefetched just
/// before it, and that is less where other work holds the guest up.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_prefetched_entries_that_are_not_used_are_found() {
    let folders = [folder(), folder()];
    let Pair { with, without, .. } = UNUSED_PREFETCH;
    let record = |folder, args: &[&str]| {
        let (trace, _) = record(folder, &[args, &["--keyframe-every", "0.003"]].concat());
        trace
    };
    let with = record(&folders[0], &[with, "-p", "passes=400"]);
    let without = record(&folders[1], &[without]);
    UNUSED_PREFETCH.check(&with, &without);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_roots_that_are_built_anew_are_found() {
    check(&[ROOTS_REBUILT]);
}

/// Why huge pages are not there, in a recording of `huge`.
fn reasons(prevent: &str) -> Vec<String> {
    let folder = folder();
    let (trace, _) = record(
        &folder,
        &[
            "huge",
            "-p",
            "backing=huge",
            "-p",
            &format!("prevent={prevent}"),
        ],
    );
    let findings = analyze("pathologies", &trace)["vms"][0]["pathologies"].clone();
    let findings = findings.as_array().expect("findings").iter();
    findings
        .filter(|finding| finding["pathology"] == "no_huge_page")
        .inspect(|finding| {
            for number in ["size", "cost_ns"] {
                assert!(finding[number].as_u64() > Some(0), "{finding}");
            }
        })
        .map(|finding| finding["culprit"]["why"].as_str().expect("why").to_owned())
        .collect()
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_huge_pages_that_could_be_are_found() {
    check(&[NO_HUGE_PAGE, HUGE_PAGES]);
    for (prevent, why) in [
        ("entries", "4 KiB entries"),
        ("alignment", "HVA"),
        ("tables", "guest table"),
        ("dirty", "dirty logging"),
    ] {
        let of = reasons(prevent);
        assert!(
            matches!(&of[..], [one] if one.contains(why)),
            "{prevent}: {of:?}"
        );
    }
}

/// Each access of `access` is refused by the same entry 32 times in a row, or P changes each time.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_accesses_that_are_refused_again_and_again_are_found() {
    check(&[LIVE_LOCK]);
}
