//! What happens to shadow pages.

use events::PageEvent;

use super::{kernel, names::ordinal};
use crate::{explain::facts::ZapCause, text::units::count};

/// What an event did to a page.
pub fn page_event(event: PageEvent) -> &'static str {
    match event {
        PageEvent::Born => "made, empty",
        PageEvent::Reused => "found and used again",
        PageEvent::Unsync => "becomes unsync",
        PageEvent::Sync => "is synced with the guest's table",
        PageEvent::Zapped => "zapped",
    }
}

/// Whether the guest may store to the table.
pub fn table_state(unsync: bool) -> &'static str {
    match unsync {
        true => "unsync",
        false => "write-protected",
    }
}

/// Why a page was zapped.
pub fn zap_cause(why: &ZapCause) -> String {
    match why {
        ZapCause::WriteFlooding {
            store_seq,
            stores_since_use,
        } => format!(
            "write flooding: the store of seq {} is the {} since KVM last used the table, so KVM \
             no longer treats its frame as a table",
            count(store_seq.0),
            ordinal(*stores_since_use)
        ),
        ZapCause::PartialStore { store_seq, .. } => format!(
            "the guest's store to its table (seq {}) is short or crosses entries, so KVM cannot \
             know which entry it makes stale",
            count(store_seq.0)
        ),
        ZapCause::StoreRetried => "the guest repeats the store \
                                   (kvm_mmu_unprotect_gfn_and_retry), so nothing was emulated"
            .to_owned(),
        ZapCause::SyncFailed => {
            "its sync failed: its role or its guest table does not fit any more".to_owned()
        }
        ZapCause::WithParent(parent) => {
            format!("with table {parent}, which pointed to it: an unsync page does not outlive it")
        }
        ZapCause::Host(row) => format!("{} (seq {})", kernel::act(row.event), count(row.seq.0)),
        ZapCause::InFault => "no store, sync or act of the host led to it: KVM makes room for a \
                              new page (n_max_mmu_pages), or its frame is mapped as another \
                              table, or the guest repeats an instruction instead of having it \
                              emulated"
            .to_owned(),
        ZapCause::NoVcpu => "on no vCPU's thread: the VM ends, a memslot changes, or the VMM \
                             lowers the number of pages"
            .to_owned(),
    }
}
