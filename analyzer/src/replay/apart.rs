//! VMs are never mixed: records of several, whatever their order, replay as each VM's alone.

use events::VmId;
use proptest::prelude::*;
use trace::Record;

use super::{Replay, ReplayOptions, VmReplay, records::any_record};

const VMS: u16 = 3;

fn of_vm(mut record: Record, vm: VmId) -> Record {
    match &mut record {
        Record::Fault(row) => row.vm = vm,
        Record::Entry(row) => row.vm = vm,
        Record::Page(row) => row.vm = vm,
        Record::Root(row) => row.vm = vm,
        Record::Mark(row) => row.vm = vm,
        Record::Keyframe(page) => page.vm = vm,
        Record::Write(row) => row.vm = vm,
        Record::Host(row) => row.vm = vm,
        Record::Act(row) => row.vm = vm,
        Record::Loss(row) => row.vm = vm,
    }
    record
}

/// All that a replayed VM says, in an order that does not depend on a map's.
fn said(vm: &VmReplay) -> String {
    let pages: Vec<_> = vm
        .tables()
        .sorted_pages()
        .iter()
        .map(|page| {
            let parents = vm.tables().parents(page.info.spt);
            format!(
                "{:?} {:?} {parents:?}",
                page.info,
                page.entries().collect::<Vec<_>>()
            )
        })
        .collect();
    format!(
        "{pages:?} {:?} {:?} {:?} {:?} {:?}",
        vm.tables().totals(),
        vm.roots(),
        vm.table_roots(),
        vm.anomalies(),
        vm.checks(),
    )
}

proptest! {
    #[test]
    fn interleaved_vms_replay_as_each_alone(
        raw in prop::collection::vec(any::<(u16, (u8, u64, u64, u64, u8, bool))>(), 0..300),
        from_birth in any::<bool>(),
    ) {
        let options = ReplayOptions { from_birth, ..ReplayOptions::default() };
        let records: Vec<Record> = raw
            .into_iter()
            .map(|(vm, (kind, a, b, c, small, flag))| {
                of_vm(any_record(kind, a, b, c, small, flag), VmId(vm % VMS))
            })
            .collect();
        let mut together = Replay::new(options);
        records.iter().for_each(|record| together.apply(record));
        for vm in (0..VMS).map(VmId) {
            let mut alone = Replay::new(options);
            let own = records.iter().filter(|record| record.vm() == vm);
            own.for_each(|record| alone.apply(record));
            prop_assert_eq!(together.vm(vm).map(said), alone.vm(vm).map(said));
        }
    }
}
