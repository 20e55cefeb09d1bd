//! Every workload's tables are rebuilt exactly on this host, with keyframes every 100 ms.

use crate::support::{
    collector,
    exact::{Audited, ITEMS, all_exact, soak},
    expect_code, folder, run,
};

fn on_the_host<S: AsRef<std::ffi::OsStr>>(items: &[S]) -> Audited {
    let folder = folder();
    let mut command = collector();
    command.args(["series", "--keyframe-every", "0.1", "-o"]);
    expect_code(&run(command.arg(folder.path()).args(items)), 0);
    all_exact(folder.path(), items.len())
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_every_workload_is_exact_at_three_sizes() {
    on_the_host(ITEMS).every_check_ran();
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_the_soak_is_exact_from_twenty_seeds() {
    on_the_host(&soak(300));
}
