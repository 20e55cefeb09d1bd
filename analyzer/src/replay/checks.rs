//! The keyframes of a VM and what they showed: sums of all, details of many.

use super::{Drift, KeyframeCheck, KeyframeUse};

/// Keyframes whose details are kept; one a second makes this 18 hours.
const KEPT: usize = 1 << 16;
/// Further ones that are kept because they differ.
const KEPT_DIFFERENT: usize = 1 << 10;

/// What the keyframes of a VM showed.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    kept: Vec<KeyframeCheck>,
    drift: Drift,
    total: u64,
    verified: u64,
}

impl Checks {
    pub(super) fn add(&mut self, check: KeyframeCheck) {
        self.total += 1;
        if check.used == KeyframeUse::Verified {
            self.verified += 1;
            self.drift.add(&check.drift);
        }
        let different = !check.first.is_empty() || !check.late.is_empty();
        let room = if different {
            KEPT + KEPT_DIFFERENT
        } else {
            KEPT
        };
        if self.kept.len() < room {
            self.kept.push(check);
        }
    }

    /// The keyframes whose details are kept: the first ones, and of later ones those that differ.
    pub fn kept(&self) -> &[KeyframeCheck] {
        &self.kept
    }

    /// Keyframes in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Keyframes that replay was compared with.
    pub fn verified(&self) -> u64 {
        self.verified
    }

    /// Drift of all of them together.
    pub fn drift(&self) -> &Drift {
        &self.drift
    }
}
