//! What is wrong with how a VM uses its shadow MMU.
//!
//! Each pathology has a threshold with its reason. What a record cannot prove is not found.
//!
//! ```text
//! finding    what was found: how often, at what cost, who, and the record that shows it
//! livelock   the same fault again and again
//! ping_pong  guest tables that are protected, stored to and synced in turn; syncs of many pages
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

#[cfg(test)]
mod tests;

use trace::{Record, Sees};

pub use finding::{Culprit, Finding, Pathology};
pub use text::{brief, section};

use huge::Huge;
use livelock::Livelocks;
use ping_pong::PingPong;
use prefetch::Prefetched;
use roots::Roots;

use crate::{
    refaults::{HeavyActs, Refaults},
    replay::{Gaps, VmReplay},
    study::{Follow, StudyError, Subject},
};

/// Looks for pathologies of one VM. Zap storms and discards are found by [`Refaults`].
#[derive(Clone, Debug)]
pub struct Pathologies {
    livelocks: Livelocks,
    ping_pong: PingPong,
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
                self.ping_pong.fault(row);
                self.prefetched.fault(row);
                self.huge.fault(row, vm);
            }
            Record::Entry(row) => {
                self.livelocks.entry(row, vm);
                self.prefetched.entry(row);
            }
            Record::Page(row) => {
                self.livelocks.page(row);
                self.ping_pong.page(row, vm);
            }
            Record::Root(row) => {
                self.ping_pong.over(row.vcpu);
                self.roots.root(row, vm);
            }
            Record::Keyframe(page) => self.prefetched.keyframe(page),
            Record::Host(row) => self.huge.host(row),
            Record::Write(_) | Record::Act(_) | Record::Mark(_) | Record::Loss(_) => {}
        }
    }

    fn after(&mut self, _: &Record, _: Option<&VmReplay>) {}

    fn finish(&mut self, vm: Option<&VmReplay>, _: Sees) -> Result<(), StudyError> {
        self.livelocks.finish();
        self.ping_pong.finish();
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
            ping_pong: PingPong::default(),
            roots: Roots::default(),
            prefetched: Prefetched::default(),
            huge: Huge::new(subject.meta),
        }
    }

    /// What was found, the costliest first.
    pub fn findings(&self, refaults: &Refaults, gaps: &Gaps) -> Vec<Finding> {
        let storms = refaults.zap_storms(gaps);
        let discards = refaults.discards(gaps);
        let mut found = vec![
            self.livelocks.finding(),
            heavy(Pathology::ZapStorm, &storms, storms.pages_zapped),
            self.ping_pong.finding(),
            self.ping_pong.storm(),
            heavy(Pathology::HostDiscard, &discards, discards.refaults),
            self.prefetched.finding(),
            self.roots.finding(),
        ];
        found.extend(self.huge.findings().into_iter().map(Some));
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_by_key(|finding| std::cmp::Reverse(finding.cost_ns));
        for finding in &mut found {
            finding.over_gap = gaps.missing() > 0;
        }
        found
    }
}

/// Acts that each are one too heavy; `size` is what they did in all.
fn heavy(pathology: Pathology, of: &HeavyActs, size: u64) -> Option<Finding> {
    let most = of.most.as_ref()?;
    Some(Finding {
        cost_ns: Some(of.total_ns),
        culprit: Culprit {
            what: Some(most.what.clone()),
            ..Culprit::default()
        },
        size,
        ..Finding::new(pathology, of.acts, most.seq)
    })
}
