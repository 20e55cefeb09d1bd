//! What is wrong: each pathology is found in a workload that has it, and not in one that has not.

use crate::support::{analyze, folder, record};

/// The pathologies that are found in a recording of a workload.
fn found(args: &[&str]) -> Vec<String> {
    let folder = folder();
    let (trace, outcome) = record(&folder, args);
    assert_eq!(outcome["recorded"]["lost"], 0, "{args:?}");
    let findings = analyze("pathologies", &trace)["vms"][0]["pathologies"].clone();
    let summary = analyze("summary", &trace)["vms"][0]["pathologies"].clone();
    assert_eq!(findings, summary, "{args:?}");
    let findings = findings.as_array().expect("findings");
    let names = findings.iter().map(|finding| {
        // What `explain` is given must be there.
        let seq = finding["seq"].as_u64().expect("a number").to_string();
        crate::support::expect_code(
            &crate::support::run(
                crate::support::analyzer()
                    .arg("explain")
                    .arg(&trace)
                    .args(["--seq", &seq]),
            ),
            0,
        );
        finding["pathology"].as_str().expect("a name").to_owned()
    });
    names.collect()
}

fn check(pathology: &str, with: &[&str], without: &[&str]) {
    let of = found(with);
    assert!(of.iter().any(|name| name == pathology), "{with:?}: {of:?}");
    let of = found(without);
    assert!(
        !of.iter().any(|name| name == pathology),
        "{without:?}: {of:?}"
    );
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_zap_storms_are_found() {
    check("zap_storm", &["recycle"], &["linear"]);
    check("zap_storm", &["memslot"], &["flood"]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_ping_pong_of_guest_tables_is_found() {
    let short = ["unsync", "-p", "rounds=1"];
    check("ping_pong", &["unsync"], &short);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_syncs_of_many_tables_are_found() {
    let many = ["unsync", "-p", "tables=32", "-p", "flush=cr3"];
    let few = ["unsync", "-p", "tables=4", "-p", "flush=cr3"];
    check("unsync_storm", &many, &few);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_memory_that_the_host_discards_and_the_guest_uses_is_found() {
    check("host_discard", &["reclaim"], &["dirty"]);
}

/// A deleted memslot makes all roots obsolete; a switch alone keeps them.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_roots_that_are_built_anew_are_found() {
    check("roots_rebuilt", &["memslot"], &["switch"]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_huge_pages_that_could_be_are_found() {
    check("no_huge_page", &["huge"], &["linear"]);
}
