//! Each workload provokes what it is for: KVM's own counters and the classes of faults say so.
//! That the guest's own check passes is the program's exit code.

use serde_json::Value;

use crate::support::{analyze, folder, record};

/// What a workload must provoke.
#[derive(Clone, Copy, Debug)]
enum What {
    /// Faults of this class, as many at least.
    Class(&'static str, u64),
    /// What a counter of KVM's grew by, at least.
    Counter(&'static str, u64),
    /// Host events of this kind, as many at least.
    Host(&'static str, u64),
}

impl What {
    /// How often it happened, and how often it had to.
    fn happened(self, vm: &Value) -> (u64, u64) {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        match self {
            Self::Class(class, least) => (number(&vm["classes"][class]["count"]), least),
            Self::Host(event, least) => (number(&vm["host"][event]), least),
            Self::Counter(counter, least) => {
                let counters = vm["reconciliation"].as_array().expect("counters");
                let found = counters.iter().find(|row| row["counter"] == counter);
                (found.map_or(0, |row| number(&row["kvm"])), least)
            }
        }
    }
}

fn check(args: &[&str], provoked: &[What]) {
    let folder = folder();
    let (trace, _) = record(&folder, args);
    let summary = analyze("summary", &trace);
    for what in provoked {
        let (found, least) = what.happened(&summary["vms"][0]);
        assert!(found >= least, "{args:?}: {found} of {what:?}");
    }
}

/// A workload at three sizes; the parameters follow each other.
fn at_sizes(sizes: [&[&str]; 3], provoked: &[What]) {
    for args in sizes {
        let with_flags: Vec<_> = args
            .iter()
            .flat_map(|arg| {
                if arg.contains('=') {
                    vec!["-p", arg]
                } else {
                    vec![*arg]
                }
            })
            .collect();
        check(&with_flags, provoked);
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_guests_change_their_own_tables() {
    at_sizes(
        [
            &["remap", "pages=64"],
            &["remap"],
            &["remap", "pages=600", "rounds=2", "batch=32"],
        ],
        &[What::Class("guest", 5), What::Class("shadow", 100)],
    );
    at_sizes(
        [
            &["fork", "pages=16", "writes=40"],
            &["fork"],
            &["fork", "pages=600", "rounds=2", "writes=600"],
        ],
        // The child's tables are used again at other levels.
        &[
            What::Class("guest", 20),
            What::Counter("mmu_shadow_zapped", 1),
        ],
    );
    at_sizes(
        [
            &["unsync", "tables=1", "flush=invlpg"],
            &["unsync"],
            &["unsync", "tables=16", "rounds=6", "flush=cr3"],
        ],
        &[What::Class("unsync", 1), What::Class("guest", 20)],
    );
    at_sizes(
        [
            &["flood", "rounds=10", "via=user"],
            &["flood"],
            &["flood", "stores=100", "rounds=20"],
        ],
        &[What::Counter("mmu_flooded", 5)],
    );
    at_sizes(
        [
            &["protect", "pages=8"],
            &["protect"],
            &["protect", "pages=300", "rounds=2"],
        ],
        &[What::Class("guest", 20)],
    );
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_tables_are_many_and_large() {
    at_sizes(
        [
            &["huge", "regions=1"],
            &["huge"],
            &["huge", "regions=16", "backing=huge"],
        ],
        &[What::Class("shadow", 20)],
    );
    at_sizes(
        [
            &["recycle", "tables=100", "mmu_pages=64"],
            &["recycle"],
            &["recycle", "tables=600", "passes=1"],
        ],
        &[What::Counter("mmu_recycled", 50)],
    );
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_the_host_disturbs_guests() {
    at_sizes(
        [
            &["reclaim", "pages=16"],
            &["reclaim"],
            &["reclaim", "pages=4096", "passes=32"],
        ],
        &[What::Host("unmap", 32)],
    );
    at_sizes(
        [
            &["dirty", "pages=16"],
            &["dirty"],
            &["dirty", "pages=2048", "passes=32", "clear=true"],
        ],
        &[What::Host("dirty_start", 2), What::Host("dirty_clear", 16)],
    );
    at_sizes(
        [
            &["memslot", "pages=16"],
            &["memslot"],
            &["memslot", "pages=2048", "passes=32"],
        ],
        &[What::Host("flush_slot", 16)],
    );
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_several_cpus_share_tables() {
    at_sizes(
        [
            &["smp", "pages=8", "steps=200"],
            &["smp", "roots=own", "steps=200"],
            &["smp", "vcpus=4", "roots=mixed", "steps=200"],
        ],
        &[What::Class("guest", 5), What::Class("unsync", 1)],
    );
    at_sizes(
        [
            &["mixed", "vcpus=1", "steps=100"],
            &["mixed"],
            &["mixed", "vcpus=4", "steps=150", "seed=2"],
        ],
        &[
            What::Class("unsync", 1),
            What::Class("guest", 20),
            What::Counter("mmu_flooded", 1),
        ],
    );
}
