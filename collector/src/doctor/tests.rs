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
