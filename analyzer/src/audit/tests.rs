//! Records that contradict each other are audited; nothing panics.

use std::collections::BTreeMap;

use events::VmId;
use proptest::prelude::*;
use trace::{Memslot, Meta, Record, VmMeta};

use super::{Audit, Check};
use crate::{
    replay::{Replay, ReplayOptions, any_record},
    study::{Follow as _, Subject},
};

/// A recording with roles and a memslot.
fn recording(every_change: bool) -> Meta {
    let fields = [
        ("level", [0, 4]),
        ("has_4_byte_gpte", [4, 1]),
        ("quadrant", [5, 2]),
        ("direct", [7, 1]),
        ("invalid", [11, 1]),
        ("smm", [24, 8]),
    ];
    let fields = fields.map(|(name, place)| (name.to_owned(), place));
    let sees = trace::Sees {
        every_change,
        ..Meta::default().sees()
    };
    let slot = Memslot {
        bytes: 1 << 20,
        ..Memslot::default()
    };
    Meta {
        role: BTreeMap::from(fields),
        sees: Some(sees),
        vms: vec![VmMeta {
            memslots: vec![slot],
            ..VmMeta::default()
        }],
        ..Meta::default()
    }
}

/// Leaves and tables that were checked for writable tables, or left out.
fn places(audit: &Audit) -> u64 {
    let tally = audit.tally(Check::WritableTable);
    let left_out: u64 = tally.left_out().map(|(_, number)| number).sum();
    tally.checked() + left_out
}

proptest! {
    #[test]
    fn any_records_are_audited(
        raw in prop::collection::vec(any::<(u8, u64, u64, u64, u8, bool)>(), 0..300),
        every_change in any::<bool>(),
    ) {
        let meta = recording(every_change);
        let options = ReplayOptions { sees_every_change: every_change, ..ReplayOptions::default() };
        let mut replay = Replay::new(options);
        let mut audit = Audit::new(&Subject {
            vm: VmId(0),
            recording: &meta,
            meta: meta.vms.first(),
            span_ns: [0; 2],
        });
        for (kind, a, b, c, small, flag) in raw {
            let record = any_record(kind, a, b, c, small, flag);
            audit.before(&record, replay.vm(VmId(0)));
            replay.apply(&record);
            let before = places(&audit);
            audit.after(&record, replay.vm(VmId(0)));
            let more = places(&audit) - before;
            match (&record, replay.vm(VmId(0))) {
                // Each synced table once.
                (Record::Mark(row), Some(vm)) if vm.last_keyframe() == Some(row.seq) => {
                    let tables = vm.tables().pages();
                    let synced = tables.filter(|page| !page.info.direct && !page.info.unsync);
                    prop_assert_eq!(more, synced.count() as u64);
                }
                // The leaf of the record once.
                _ => prop_assert!(more <= 1),
            }
        }
        audit.finish(replay.vm(VmId(0)), meta.sees())?;
        for check in Check::ALL {
            let tally = audit.tally(check);
            prop_assert!(tally.first().len() as u64 <= tally.violated());
            prop_assert!(tally.violated() <= tally.checked());
        }
    }
}
