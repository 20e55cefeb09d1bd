//! The state of a VM before a record.

use events::{Gfn, Gptes};

use super::history::History;
use crate::replay::{PageInfo, ShadowPage, VmReplay};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(in crate::explain) struct Before<'a> {
    /// Its tables, if a record gave any.
    pub replay: Option<&'a VmReplay>,
    pub history: &'a History,
}

impl<'a> Before<'a> {
    /// The shadow pages of the guest table at a frame.
    pub fn shadows_of(&self, gfn: Gfn) -> Vec<&'a ShadowPage> {
        let pages = self.replay.into_iter().flat_map(|vm| vm.tables().pages());
        let shadows = pages.filter(|page| !page.info.direct && page.info.gfn == gfn);
        let mut shadows: Vec<_> = shadows.collect();
        shadows.sort_by_key(|page| page.info.spt);
        shadows
    }

    /// The guest entries that a shadow page shadows, by its role.
    pub fn gptes(&self, page: &PageInfo) -> Gptes {
        self.replay
            .map_or(Gptes::ALL, |vm| page.role.gptes(vm.role_layout()))
    }
}
