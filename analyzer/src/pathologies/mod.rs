//! What is wrong with how a VM uses its shadow MMU.
//!
//! Each pathology has a threshold with its reason. What a record cannot prove is not found.
//!
//! ```text
//! finding    what was found: how often, at what cost, who, and the record that shows it
//! livelock   the same fault again and again
//! ping_pong  guest tables that are protected, stored to and synced in turn
//! unsync_storm  syncs of many pages
//! roots      roots that are built anew at each switch
//! prefetch   entries that were mapped ahead and never used
//! huge       huge pages that could be, and are not
//! ```

mod finding;
mod huge;
mod livelock;
mod ping_pong;
mod prefetch;
mod roots;
mod text;
mod unsync_storm;

#[cfg(test)]
mod tests;

use trace::{Record, Sees};

pub use finding::{Culprit, Finding, Pathology};
pub use text::{brief, section, thresholds};

use huge::Huge;
use livelock::Livelocks;
use prefetch::Prefetched;
use roots::Roots;
use unsync_storm::UnsyncStorm;

use crate::{
    refaults::HeavyActs,
    replay::{Gaps, VmReplay},
    study::{Follow, StudyError, Subject},
    top::Payers,
};

/// Looks for pathologies of one VM. Zap storms, discards and ping-pong are found by [`Payers`].
#[derive(Clone, Debug)]
pub struct Pathologies {
    livelocks: Livelocks,
    unsync_storm: UnsyncStorm,
    roots: Roots,
    prefetched: Prefetched,
    huge: Huge,
}

impl Follow for Pathologies {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        let Some(vm) = vm else { return };
        match record {
            Record::Fault(row) => {
                self.livelocks.fault(row, vm);
                self.unsync_storm.over(row.vcpu);
                self.prefetched.fault(row);
                self.huge.fault(row, vm);
                self.roots.fault(row);
            }
            Record::Entry(row) => {
                self.livelocks.entry(row, vm);
                self.prefetched.entry(row);
            }
            Record::Page(row) => {
                self.livelocks.page(row);
                self.unsync_storm.page(row, vm);
            }
            Record::Root(row) => {
                self.unsync_storm.over(row.vcpu);
                self.roots.root(row, vm);
            }
            Record::Keyframe(page) => self.prefetched.keyframe(page),
            Record::Host(row) => self.huge.host(row),
            Record::Act(row) => self.unsync_storm.act(row),
            Record::Write(_) | Record::Mark(_) | Record::Loss(_) => {}
        }
    }

    fn after(&mut self, _: &Record, _: Option<&VmReplay>) {}

    fn finish(&mut self, vm: Option<&VmReplay>, _: Sees) -> Result<(), StudyError> {
        self.livelocks.finish();
        self.unsync_storm.finish();
        if let Some(vm) = vm {
            self.huge.finish(vm);
        }
        Ok(())
    }
}

impl Pathologies {
    /// Nothing was read yet.
    pub fn new(subject: &Subject<'_>) -> Self {
        Self {
            livelocks: Livelocks::default(),
            unsync_storm: UnsyncStorm::new(subject.recording.sees().acts),
            roots: Roots::default(),
            prefetched: Prefetched::default(),
            huge: Huge::new(subject.meta),
        }
    }

    /// What was found, the costliest first. `payers` are by guest table, at least.
    pub fn findings(&self, payers: &Payers, gaps: &Gaps) -> Vec<Finding> {
        let refaults = payers.refaults();
        let storms = refaults.map(|of| of.zap_storms(gaps)).unwrap_or_default();
        let discards = refaults.map(|of| of.discards(gaps)).unwrap_or_default();
        let mut found = vec![
            self.livelocks.finding(),
            heavy(Pathology::ZapStorm, &storms, storms.pages_zapped),
            payers.guest_tables().and_then(ping_pong::finding),
            self.unsync_storm.finding(),
            heavy(Pathology::HostDiscard, &discards, discards.refaults),
            self.prefetched.finding(),
            self.roots.finding(),
        ];
        found.extend(self.huge.findings().into_iter().map(Some));
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_by_key(|finding| std::cmp::Reverse(finding.own_ns()));
        for finding in &mut found {
            finding.over_gap = gaps.missing() > 0;
        }
        found
    }
}

/// Acts that each are one too heavy; `size` is what they did in all.
fn heavy(pathology: Pathology, of: &HeavyActs, size: u64) -> Option<Finding> {
    let most = of.most.as_ref()?;
    let found = Finding {
        culprit: Culprit {
            what: Some(most.what.clone()),
            ..Culprit::default()
        },
        size,
        ..Finding::new(pathology, of.acts, most.seq)
    };
    Some(found.paid(of.paid))
}
