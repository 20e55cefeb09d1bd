//! Facts of real hosts, kept as they were found, and what is said of them.

use super::{Facts, judge, print};

fn said(facts: &str) -> String {
    let facts: Facts = serde_json::from_str(facts).expect("facts of a host");
    let report = judge(&facts);
    let mut text = Vec::new();
    print(&mut text, &report).expect("writes to memory succeed");
    let text = String::from_utf8(text).expect("text");
    format!("able: {}\n\n{text}", report.able)
}

macro_rules! host {
    ($($name:ident)+) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(said(include_str!(concat!("facts/", stringify!($name), ".json"))));
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
