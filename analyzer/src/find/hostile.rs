//! Records that contradict each other: nothing panics.

use events::{Gva, VmId};
use proptest::prelude::*;

use super::{Find, Span, Target};
use crate::{
    explain::records,
    listing::{ChangeFilter, Changes, FaultFilter, Faults, Sort},
    replay::{Replay, ReplayOptions},
    study::{Follow as _, Subject},
    top::{By, Payers, Question},
};

const VM: VmId = VmId(0);

proptest! {
    #[test]
    fn every_list_takes_any_records(records in records()) {
        let bys = [By::Cr3, By::GvaRange, By::GuestTable, By::ShadowPage, By::Cause];
        let meta = trace::Meta::default();
        let subject = Subject { vm: VM, recording: &meta, meta: None, span_ns: [0, 0] };
        let mut payers = Payers::of(&subject, &bys.map(Question::new));
        let mut faults = Faults::new(FaultFilter::default(), Sort::Total, 3);
        let mut changes = Changes::new(ChangeFilter::default(), 3);
        let mut find = Find::new(Target::Gva(Gva(0x1000)), Span::default());
        let mut replay = Replay::new(ReplayOptions::default());
        for record in &records {
            let vm = replay.vm(VM);
            payers.before(record, vm);
            changes.before(record, vm);
            find.before(record, vm);
            replay.apply(record);
            let vm = replay.vm(VM);
            payers.after(record, vm);
            faults.after(record, vm);
            changes.after(record, vm);
            find.after(record, vm);
        }
        prop_assert!(payers.finish(replay.vm(VM), meta.sees()).is_ok());
        for rank in payers.ranks(&meta) {
            crate::top::table(&rank, 3, 0, "");
            crate::top::ping_pong(&rank, 3);
            prop_assert!(crate::top::json(&rank, 3, 0).is_object());
        }
        faults.table(&std::sync::Arc::default(), 0, "");
        changes.table(0);
        super::table(&find, Target::Gva(Gva(0x1000)), 3, 0);
        prop_assert!(faults.json(&std::sync::Arc::default(), 0).is_object());
        prop_assert!(changes.json(0).is_object());
    }
}
