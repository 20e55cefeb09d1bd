//! Why addresses fault again: the causes are what the workload did.

use crate::support::{
    folder,
    refaults::{Bills, Case, DIRTY, FLOOD, MEMSLOT, RECLAIM, RECYCLE, REMAP},
    series, trace_of,
};

fn check(cases: &[Case]) {
    let folder = folder();
    for Case { item, check } in cases {
        series(folder.path(), &[item]);
        check(&Bills::of(&folder.path().join(trace_of(item))));
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_remapped_pages_fault_again_for_the_guests_stores() {
    check(REMAP);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_flooded_directory_is_walked_again() {
    check(&[FLOOD]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_recycled_tables_fault_again_in_each_pass() {
    check(&[RECYCLE]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_pages_of_a_dirty_log_fault_again_for_it() {
    check(&[DIRTY]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_deleted_memslot_makes_everything_fault_again() {
    check(&[MEMSLOT]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_reclaimed_pages_fault_again_for_the_host() {
    check(&[RECLAIM]);
}
