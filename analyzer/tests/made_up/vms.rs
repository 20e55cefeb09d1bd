//! Traces of two VMs.

use maker::{Shape, Vms};

use super::demo::{Demo, two};

#[test]
fn two_vms_are_summed_up_apart() {
    insta::assert_snapshot!(two().text(&["summary", "demo.trace"], 0));
}

#[test]
fn two_vms_are_verified_apart() {
    insta::assert_snapshot!(two().text(&["verify", "demo.trace"], 0));
}

#[test]
fn two_vms_have_a_timeline_each() {
    insta::assert_snapshot!(two().text(&["timeline", "demo.trace", "--lines", "6"], 0));
}

#[test]
fn one_of_two_vms_must_be_chosen_for_a_table() {
    let demo = two();
    let mut text = String::new();
    for args in [
        vec!["table", "demo.trace"],
        vec!["explain", "demo.trace", "--fault", "0"],
        vec!["table", "demo.trace", "--vm", "2"],
        vec!["summary", "demo.trace", "--vm", "2"],
        vec!["report", "demo.trace", "--vm", "2"],
    ] {
        text += &format!("$ {}\n{}\n", args.join(" "), demo.error(&args, 2));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_vm_alone_is_as_it_is_among_others() {
    let demo = Demo::new(Shape {
        vms: Vms::Attached,
        lose: Some(12),
        ..Shape::default()
    });
    for (command, code) in [
        ("summary", 0),
        ("verify", 1),
        ("timeline", 0),
        ("refaults", 0),
    ] {
        let all = demo.json(&[command, "demo.trace", "--json"], code);
        assert_eq!(all["vms"].as_array().unwrap().len(), 2);
        for vm in ["0", "1"] {
            let args = [command, "demo.trace", "--json", "--vm", vm];
            let alone = demo.json(&args, code);
            assert_eq!(alone["vms"].as_array().unwrap().len(), 1);
            let number: usize = vm.parse().unwrap();
            assert_eq!(alone["vms"][0], all["vms"][number], "{command} --vm {vm}");
        }
    }
    // The lost record was the first VM's, but the trace does not say so.
    for args in [
        ["summary", "demo.trace", "--vm", "1"].as_slice(),
        &["timeline", "demo.trace", "--vm", "1"],
        &["table", "demo.trace", "--vm", "1", "--fault", "2"],
        &["explain", "demo.trace", "--vm", "1", "--fault", "2"],
    ] {
        let text = demo.text(args, 0);
        assert!(text.contains("1 record"), "{args:?}: {text}");
    }
}
