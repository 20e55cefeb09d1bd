use trace::Micro;

use super::{OPERATIONS, Timed, ratios, scaling};

fn timed(op: &str, others: &str, median: f64) -> Timed {
    let micro = Micro {
        op: op.to_owned(),
        ..Micro::default()
    };
    Timed::new(&micro, others.to_owned(), 1, Some([0.0, median, 0.0]))
}

/// The paper's own proportions: 3.17 / 0.93 and so on.
#[test]
fn ratios_are_of_the_same_parameters_and_the_same_configuration() {
    let all = [
        timed("page-fault", "ops=8", 100.0),
        timed("protection-fault", "ops=8", 250.0),
        timed("protection-fault", "ops=16", 1.0),
        timed("exception", "ops=8", 200.0),
        timed("fork", "ops=8", 1000.0),
        timed("map-unmap", "ops=8", 7.0),
    ];
    let found = ratios(&all);
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].op, found[0].of),
        ("protection-fault", "page-fault")
    );
    assert_eq!(found[0].ours, 2.5);
    let rounded = found[0]
        .published
        .map(|ratio| ratio.map(|one| (one * 100.0).round()));
    assert_eq!(rounded, [Some(341.0), Some(301.0), None, Some(266.0)]);
    assert_eq!((found[1].op, found[1].ours), ("page-fault", 0.5));
    let [kvm, pvm, nested_kvm, nested_pvm] = found[1].published;
    assert_eq!((kvm, nested_kvm), (None, None), "kvm-spt and kvm");
    assert!(pvm.is_some() && nested_pvm.is_some());
}

#[test]
fn a_time_of_nothing_is_no_unit() {
    let none = Timed {
        quartiles_ns: None,
        ..timed("page-fault", "", 0.0)
    };
    for unit in [timed("page-fault", "", 0.0), none] {
        assert_eq!(ratios(&[timed("protection-fault", "", 1.0), unit]), []);
    }
}

#[test]
fn steps_are_in_units_of_the_fewest_processes() {
    let point = |processes, others: &str, ns| (processes, others.to_owned(), ns);
    let steps = scaling([
        point(32, "vcpus=1", 640.0),
        point(1, "vcpus=1", 10.0),
        point(2, "vcpus=2", 30.0),
        point(1, "vcpus=2", 0.0),
    ]);
    let of: Vec<_> = steps
        .iter()
        .map(|step| (step.processes, step.times, step.times_each))
        .collect();
    let expected = [
        (1, Some(1.0), Some(1.0)),
        (32, Some(64.0), Some(2.0)),
        (1, None, None),
        (2, None, None),
    ];
    assert_eq!(of, expected);
}

#[test]
fn every_operation_of_the_workload_is_named_once() {
    let mut ops: Vec<_> = OPERATIONS.iter().map(|one| one.op).collect();
    ops.sort_unstable();
    ops.dedup();
    assert_eq!(ops.len(), OPERATIONS.len());
    for one in OPERATIONS {
        assert_eq!(one.table.is_none(), one.us == [None; 4], "{}", one.op);
    }
}
