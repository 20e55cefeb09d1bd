//! Guests of guests, on a KVM that uses NPT.

use std::path::Path;

use events::{Class, Gva};
use trace::{Mode, Record, Trace};

use super::lab;
use crate::support::{analyze, analyzer, expect_code, expect_only, folder, run, stderr};

/// The lab with a workload in a nested guest, the tables copied every second; `verify` fails unless
/// all of it is exact.
fn exact(folder: &Path, args: &[&str]) -> std::path::PathBuf {
    let trace = folder.join("n.trace");
    let mut command = lab();
    command.arg("--nested").args(args);
    command.args(["--keyframe-every", "1", "-o"]).arg(&trace);
    expect_code(&run(command.args(["--timeout", "900"])), 0);
    let verified = analyze("verify", &trace);
    let drift = &verified["vms"][0]["drift"];
    assert!(drift["keyframes"].as_u64() >= Some(1), "{args:?}: {drift}");
    assert_eq!(
        (
            &drift["entries"],
            &drift["pages"],
            &drift["late"]["entries"]
        ),
        (&0.into(), &0.into(), &0.into()),
        "{args:?}: {drift}"
    );
    let summary = analyze("summary", &trace);
    assert_eq!(summary["lost"]["records"], 0, "{}", summary["lost"]);
    trace
}

/// Each page that the nested guest touches first is missing in L1's NPT, which L1 repairs, and
/// then in KVM's shadow of it.
#[test]
#[ignore = "needs QEMU, busybox-static and a kernel package"]
fn lab_linux_as_a_hypervisor_has_exact_tables_of_its_guest() {
    const PAGES: u64 = 600;
    let folder = folder();
    let trace = exact(folder.path(), &["demand", "-p", &format!("pages={PAGES}")]);

    let opened = Trace::open(&trace).expect("a trace");
    assert_eq!(opened.meta().vms[0].mode, Mode::NestedNpt);
    let mut faults: Vec<(Gva, Class)> = Vec::new();
    for record in opened.records() {
        if let Record::Fault(fault) = record.expect("a whole trace") {
            faults.push((fault.gva, fault.class));
        }
    }
    let page = |gva: Gva| Gva(gva.0 & !0xfff);
    let injected = |gva: Gva, from: usize| {
        let before = faults[..from].iter().rev();
        before
            .take(8)
            .any(|&(at, class)| class == Class::Guest && page(at) == page(gva))
    };
    let mut shadowed = 0;
    for (number, &(gva, class)) in faults.iter().enumerate() {
        if class == Class::Shadow && injected(gva, number) {
            shadowed += 1;
        }
    }
    assert!(shadowed >= PAGES, "{shadowed} of {PAGES} pages");

    let explained = run(analyzer()
        .arg("explain")
        .arg(&trace)
        .args(["--class", "guest"]));
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("L1's NPT: nGPA -> GPA"), "{explained}");
    assert!(
        explained.contains("nested_svm_inject_npf_exit"),
        "{explained}"
    );
}

/// L1 changes the tables of its guest: it unmaps, protects against stores, frees and moves.
#[test]
#[ignore = "needs QEMU, busybox-static, a kernel package and ten minutes"]
fn lab_linux_long_as_a_hypervisor_every_workload_is_exact() {
    for workload in [
        "linear", "unsync", "dirty", "remap", "reclaim", "memslot", "switch", "flood", "alias",
        "recycle", "fork", "alloc", "mixed",
    ] {
        let folder = folder();
        exact(folder.path(), &[workload]);
    }
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_with_nested_paging_attach_waits_for_a_nested_guest() {
    let folder = folder();
    let mut command = lab();
    command.args(["--module-param", "kvm_amd.npt=1", "-o", "w"]);
    command.args(["--", "attach", "--all", "--for", "2", "-o", "w.trace"]);
    let output = run(command.current_dir(folder.path()));
    expect_code(&output, 1);
    let said = stderr(&output);
    assert!(said.contains("no nested guest runs yet"), "{said}");
    assert!(said.contains("no nested guest ran in 2 s"), "{said}");
    expect_only(&folder, &[]);
}
