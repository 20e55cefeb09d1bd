//! Records that contradict each other are counted; nothing panics.

use events::{Seq, VmId};
use proptest::prelude::*;
use trace::Meta;

use super::{Growth, PeakReport, Snapshot, VmMemory};
use crate::{
    replay::{Replay, ReplayOptions, any_record},
    study::{Follow as _, Subject},
};

proptest! {
    #[test]
    fn any_records_are_counted(
        raw in prop::collection::vec(any::<(u8, u64, u64, u64, u8, bool)>(), 0..300),
    ) {
        let meta = Meta::default();
        let mut replay = Replay::new(ReplayOptions::default());
        let mut growth = Growth::new(&Subject {
            vm: VmId(0),
            recording: &meta,
            meta: None,
            span_ns: [0; 2],
        });
        for (kind, a, b, c, small, flag) in raw {
            let record = any_record(kind, a, b, c, small, flag);
            growth.before(&record, replay.vm(VmId(0)));
            replay.apply(&record);
            growth.after(&record, replay.vm(VmId(0)));
        }
        let Some(vm) = replay.vm(VmId(0)) else {
            return Ok(());
        };
        let snapshot = Snapshot::of(vm, Seq(0));
        let pages: u64 = snapshot.pages.iter().flatten().sum();
        prop_assert_eq!(pages, vm.tables().totals().all_pages());
        prop_assert_eq!(pages, snapshot.own + snapshot.shared + snapshot.unreached);
        let _ = VmMemory::of(VmId(0), &growth, &snapshot);
        let _ = PeakReport::of(&growth);
    }
}
