//! What the maps hold, on the real kernel.

use std::{
    collections::BTreeSet,
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use events::{VcpuId, VmId};
use kvm_ioctls::Kvm;

use super::{KernelTypes, Platform, Probes, Room};

/// How long a thread that was joined may take to leave the kernel.
const EXIT: Duration = Duration::from_secs(5);

/// Its id may be given to a new thread, which is not the vCPU's.
#[test]
#[ignore = "needs root and /dev/kvm"]
fn kvm_a_thread_that_ends_runs_no_vcpu() {
    let types = KernelTypes::running().expect("BTF");
    let config = types.resolve().expect("all fields").config;
    let platform = Platform {
        pvm: false,
        kprobes: false,
    };
    let (mut probes, _ring) =
        Probes::load(&config, Room::NONE, false, &BTreeSet::new()).expect("loaded");
    probes.attach(&types, platform).expect("attached");
    let vm = Kvm::new().and_then(|kvm| kvm.create_vm()).expect("a VM");
    let vcpu = vm.create_vcpu(0).expect("a vCPU");
    let enrol = || probes.enrol(vm.as_raw_fd(), vcpu.as_raw_fd(), VmId(0), VcpuId(0));
    thread::scope(|scope| scope.spawn(enrol).join())
        .expect("no panic")
        .expect("enrolled");
    let joined = Instant::now();
    while probes.maps.vcpus.iter().next().is_some() {
        assert!(joined.elapsed() < EXIT, "the thread is still a vCPU's");
        thread::sleep(Duration::from_millis(1));
    }
}
