//! Records that contradict each other are counted; nothing panics.

use std::collections::BTreeMap;

use events::{Gfn, Seq, VmId};
use proptest::prelude::*;
use trace::Meta;

use super::{Growth, Owners, PeakReport, Snapshot, VmMemory, snapshot::union};
use crate::{
    replay::{Replay, ReplayOptions, any_record},
    study::{Follow as _, Subject},
};

/// A large leaf and small ones of the same frames map them once.
#[test]
fn a_frame_that_two_leaves_map_is_mapped_once() {
    let mut ranges = [[512, 1024], [700, 701], [1023, 1025], [5, 6], [5, 6]];
    assert_eq!(union(&mut ranges), 512 + 1 + 1);
    assert_eq!(union(&mut []), 0);
}

proptest! {
    #[test]
    fn any_records_are_counted(
        raw in prop::collection::vec(any::<(u8, u64, u64, u64, u8, bool)>(), 0..300),
    ) {
        let meta = Meta::default();
        let mut replay = Replay::new(ReplayOptions::default());
        let subject = Subject {
            vm: VmId(0),
            recording: &meta,
            meta: None,
            span_ns: [0; 2],
        };
        let mut growth = Growth::new(&subject);
        // One look, at the end.
        let mut owners = Owners::new(&Subject { span_ns: [u64::MAX; 2], ..subject });
        for (kind, a, b, c, small, flag) in raw {
            let record = any_record(kind, a, b, c, small, flag);
            growth.before(&record, replay.vm(VmId(0)));
            owners.before(&record, replay.vm(VmId(0)));
            replay.apply(&record);
            growth.after(&record, replay.vm(VmId(0)));
        }
        let Some(vm) = replay.vm(VmId(0)) else {
            return Ok(());
        };
        let snapshot = Snapshot::of(vm, Seq(0));
        let strays = vm.tables().pages().map(|page| {
            let leaves = page.entries().filter(|(_, spte)| spte.is_leaf(page.info.level));
            leaves.filter(|(index, _)| page.leaf_gfn(*index).is_none()).count() as u64
        });
        prop_assert_eq!(snapshot.strays, strays.sum::<u64>());
        let pages: u64 = snapshot.pages.iter().flatten().sum();
        prop_assert_eq!(pages, vm.tables().totals().all_pages());
        prop_assert_eq!(pages, snapshot.own + snapshot.shared + snapshot.unreached);
        let by_role: u64 = snapshot.roles.iter().map(|of| of.pages).sum();
        prop_assert!(by_role == pages || snapshot.roles.len() == 256);
        if let Some((_, last)) = growth.bins().last() {
            let by_role: u64 = last.roles.iter().map(|(_, pages)| pages).sum();
            let all: u64 = last.pages.iter().flatten().sum();
            prop_assert!(by_role == all || last.roles.len() == 64, "{by_role} of {all}");
        }
        let mut tables: BTreeMap<Gfn, u64> = BTreeMap::new();
        for page in vm.tables().pages().filter(|page| !page.info.direct) {
            *tables.entry(page.info.gfn).or_default() += 1;
        }
        prop_assert_eq!(snapshot.guest_tables, tables.len() as u64);
        let several = tables.values().filter(|pages| **pages > 1);
        prop_assert_eq!(snapshot.duplicated, several.clone().count() as u64);
        prop_assert_eq!(snapshot.duplicates, several.map(|pages| pages - 1).sum::<u64>());
        owners.finish(Some(vm), meta.sees()).expect("nothing is read");
        let look = owners.looks().last().expect("a look");
        let own = look.own.values().sum::<u64>() + look.others;
        prop_assert_eq!(own, snapshot.own);
        prop_assert_eq!([look.shared, look.unreached], [snapshot.shared, snapshot.unreached]);
        prop_assert_eq!(look.duplicates, snapshot.duplicates);
        prop_assert_eq!(owners.most().map_or(0, |most| most.pages.iter().flatten().sum()), pages);
        let _ = VmMemory::of(VmId(0), &growth, &snapshot);
        let _ = PeakReport::of(&growth);
    }
}
