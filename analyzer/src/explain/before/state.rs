//! The state of a VM before a record.

use super::history::History;
use crate::replay::VmReplay;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(in crate::explain) struct Before<'a> {
    /// Its tables, if a record gave any.
    pub replay: Option<&'a VmReplay>,
    pub history: &'a History,
}
