//! The tables at one moment.

use events::{Hpa, Seq, TimeNs};
use trace::TraceError;

use super::moment::TableError;
use crate::replay::VmReplay;

/// The tables at a moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The replayed VM.
    pub vm: VmReplay,
    /// The last record applied.
    pub seq: Seq,
    /// Its time.
    pub time: TimeNs,
    /// First time of the trace, ns.
    pub start_ns: u64,
    /// Records read to get there.
    pub read: u64,
    /// Missing records since the tables were last known to be right, of any VM.
    pub missing: u64,
}

/// What can go wrong while taking a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is no such moment.
    #[error(transparent)]
    Moment(#[from] TableError),
    /// The trace could not be read that far.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

impl Snapshot {
    /// Roots to show: all, or the one asked for.
    pub fn roots(&self, only: Option<Hpa>) -> Result<Vec<Hpa>, TableError> {
        let roots = self.vm.table_roots().all();
        match only {
            None => Ok(roots),
            Some(root) if self.is_table(root) => Ok(vec![root]),
            Some(root) => Err(TableError::NoRoot { root, known: roots }),
        }
    }

    /// Whether `root` is a shadow page or a PAE root.
    pub(super) fn is_table(&self, root: Hpa) -> bool {
        self.vm.tables().page(root.table()).is_some() || self.vm.pdptes(root).is_some()
    }
}
