//! What can be wrong with a study.

use super::known::{KnownVm, list};

/// What went wrong while studying a trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudyError {
    /// The VM asked for is not in the trace.
    #[error("no VM {asked} in this trace; it has {}", list(.known))]
    NoVm {
        /// The number asked for.
        asked: u16,
        /// Those that are there.
        known: Vec<KnownVm>,
    },
    /// A command for one VM, and no choice between several.
    #[error("which VM? this trace has {}", list(.known))]
    SeveralVms {
        /// Those that are there.
        known: Vec<KnownVm>,
    },
}
