//! Facts of real hosts, and the report on each.

use super::{Facts, State, facts::Access, judge, print};
use crate::terminal::DEFAULT_WIDTH;

fn report_on(facts: &str) -> String {
    let facts: Facts = serde_json::from_str(facts).expect("facts of a host");
    let report = judge(&facts, "collector");
    let mut text = Vec::new();
    print(&mut text, &report, DEFAULT_WIDTH).expect("writes to memory succeed");
    let text = String::from_utf8(text).expect("text");
    format!("able: {}\n\n{text}", report.able)
}

macro_rules! host {
    ($($name:ident)+) => {$(
        #[test]
        fn $name() {
            let facts = include_str!(concat!("facts/", stringify!($name), ".json"));
            insta::assert_snapshot!(report_on(facts));
        }
    )+};
}

host! {
    pvm_6_18
    pvm_6_18_without_root
    svm_6_1
    svm_6_1_with_npt
    svm_6_12
    svm_7_2
    no_kvm
}

#[test]
fn a_device_that_root_may_not_open_is_missing() {
    let mut facts: Facts = serde_json::from_str(include_str!("facts/svm_6_1.json")).expect("facts");
    facts.kvm = Access::Denied;
    let report = judge(&facts, "collector");
    let kvm = report.findings.iter().find(|of| of.what == "/dev/kvm");
    let kvm = kvm.expect("a finding");
    assert!(facts.root && !report.able && kvm.state == State::Missing);
    let remedy = kvm.remedy.as_deref().expect("a remedy");
    assert!(remedy.contains("container"), "{remedy}");
}

/// Nothing is concluded from what is not shown: no "load the module", no "build the kernel".
#[test]
fn without_sys_that_is_what_is_missing() {
    let mut facts: Facts = serde_json::from_str(include_str!("facts/no_kvm.json")).expect("facts");
    (facts.no_sys, facts.kvm) = (true, Access::Open);
    let report = judge(&facts, "collector");
    assert!(!report.able);
    let missing = report
        .findings
        .iter()
        .filter(|of| of.state == State::Missing);
    let missing: Vec<_> = missing.map(|of| of.what.as_str()).collect();
    assert_eq!(missing[0], "/sys", "{missing:?}");
    let text = format!("{report:?}");
    assert!(
        !text.contains("modprobe") && !text.contains("CONFIG_DEBUG_INFO_BTF"),
        "{text}"
    );
}
