//! The last record of each place that differs in a keyframe.
//!
//! A record that stores an entry is about that entry. One that makes or zaps a page is about all of
//! its entries; any event of a page is about that page. A sync or a lookup is about no entry. What
//! differs in a keyframe came after the last such record, or after the keyframe before.

use std::collections::BTreeMap;

use events::{Hpa, PageEvent, Seq, VmId};
use trace::{Record, Trace, TraceError};

use crate::{
    replay::{Difference, KeyframeCheck, SeqTime},
    study::Study,
};

/// A place of a VM that differs in some keyframes, each by the number of its mark.
type Watched = BTreeMap<(VmId, Hpa), Vec<Seq>>;

/// The last record of each place, by the keyframe that shows the difference.
#[derive(Default)]
pub(super) struct Witnesses(BTreeMap<(VmId, Seq, Hpa), SeqTime>);

impl Witnesses {
    /// Reads the trace once more if anything differs.
    pub(super) fn of(trace: &Trace, study: &Study) -> Result<Self, TraceError> {
        let mut entries = Watched::new();
        let mut pages = Watched::new();
        // Table to the entries in it that differ.
        let mut tables: BTreeMap<(VmId, Hpa), Vec<Hpa>> = BTreeMap::new();
        for (vm, of) in &study.vms {
            for check in of.checks.kept() {
                for difference in check.first.iter().chain(&check.late) {
                    let place = difference.place;
                    if difference.kind.is_of_page() {
                        pages.entry((*vm, place)).or_default().push(check.seq);
                    } else {
                        entries.entry((*vm, place)).or_default().push(check.seq);
                        tables.entry((*vm, place.table())).or_default().push(place);
                    }
                }
            }
        }
        let mut found = Self(BTreeMap::new());
        if entries.is_empty() && pages.is_empty() {
            return Ok(found);
        }
        for record in trace.records() {
            // What follows damage was not compared either.
            let Ok(record) = record else { break };
            let vm = record.vm();
            match &record {
                Record::Fault(row) => found.note(&record, row.sptep, &entries),
                Record::Entry(row) => found.note(&record, Some(row.sptep), &entries),
                Record::Page(row) => {
                    found.note(&record, Some(row.spt), &pages);
                    if matches!(row.event, PageEvent::Born | PageEvent::Zapped) {
                        let places = tables.get(&(vm, row.spt)).into_iter().flatten();
                        places.for_each(|place| found.note(&record, Some(*place), &entries));
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn note(&mut self, record: &Record, place: Option<Hpa>, watched: &Watched) {
        let Some(place) = place else { return };
        let vm = record.vm();
        let moment = SeqTime {
            seq: record.seq(),
            time: record.time(),
        };
        for until in watched.get(&(vm, place)).into_iter().flatten() {
            if moment.seq < *until {
                self.0.insert((vm, *until, place), moment);
            }
        }
    }

    /// The last record of what differs, or the mark of the keyframe before, whichever is later.
    pub(super) fn last(
        &self,
        vm: VmId,
        check: &KeyframeCheck,
        difference: &Difference,
    ) -> Option<SeqTime> {
        let last = self.0.get(&(vm, check.seq, difference.place)).copied();
        last.max(check.after)
    }
}
