//! KVM's reverse maps: the entries that map one frame.

use aya_ebpf::helpers::bpf_loop;
use core::ffi::c_void;
use events::{
    SHADOWS,
    constants::{RMAP_FLAGS, RMAP_MANY},
};

use crate::kernel::{config, field, offset, read};

/// Most `struct pte_list_desc` of a list that are read. Each has 14 entries so far: that makes
/// 4,200, four times what KVM keeps for one frame (`RMAP_RECYCLE_THRESHOLD`).
const MOST_DESCS: u32 = 300;
/// Most entries of a `struct pte_list_desc` (`PTE_LIST_EXT`) that are read.
const MOST_ENTRIES: u32 = 32;

/// What a `struct kvm_rmap_head` holds.
pub enum Head {
    /// Nothing maps the frame.
    Empty,
    /// The kernel address of the one entry.
    One(u64),
    /// The first `struct pte_list_desc`.
    Many(u64),
}

/// Whether this kernel's lists can be read.
#[inline(always)]
pub fn are_known() -> bool {
    offset!(desc_more).is_there()
        && offset!(desc_sptes).is_there()
        && offset!(desc_count).is_there()
        && (1..=MOST_ENTRIES).contains(&config!(desc_entries))
}

/// Reads a head.
#[inline(always)]
pub fn head(at: u64) -> Option<Head> {
    let value: u64 = read(at)?;
    Some(match value & !RMAP_FLAGS {
        0 => Head::Empty,
        one if value & RMAP_MANY == 0 => Head::One(one),
        desc => Head::Many(desc),
    })
}

/// The first entries of a list; 0 where there are fewer.
#[inline(always)]
pub fn first(desc: u64) -> Option<[u64; SHADOWS]> {
    let count: u32 = field(desc, offset!(desc_count))?;
    let mut entries = [0; SHADOWS];
    for (at, entry) in entries.iter_mut().enumerate() {
        if (at as u32) < count {
            *entry = field(desc + 8 * at as u64, offset!(desc_sptes))?;
        }
    }
    Some(entries)
}

/// The state of [`each`].
#[repr(C)]
pub struct Visit {
    /// The next `struct pte_list_desc`; 0 at the end of the list.
    desc: u64,
    /// Not 0: something could not be read.
    failed: u64,
    /// See [`Entry`].
    of: u64,
    /// See [`Entry`].
    gfn: u64,
    entry: Entry,
}

/// What is done with each entry.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Entry {
    /// It is recorded as it is: `of` is the VM's number, `gfn` the frame.
    Reread = 0,
    /// It is recorded as cleared: `of` is `struct kvm`.
    Clear = 1,
}

/// Visits all entries of a list; false if some cannot be read.
#[inline(always)]
pub fn each(desc: u64, entry: Entry, of: u64, gfn: u64) -> bool {
    let mut visit = Visit {
        desc,
        failed: 0,
        of,
        gfn,
        entry,
    };
    // SAFETY: the callback takes the visit.
    unsafe {
        bpf_loop(
            MOST_DESCS,
            visit_desc as *mut c_void,
            (&raw mut visit).cast(),
            0,
        )
    };
    visit.desc == 0 && visit.failed == 0
}

/// Called for each `struct pte_list_desc`; 0: continue.
#[inline(never)]
unsafe extern "C" fn visit_desc(_: u64, visit: *mut Visit) -> i64 {
    // SAFETY: the helper passes what the caller gave it.
    let visit = unsafe { &mut *visit };
    if visit.desc == 0 {
        return 1;
    }
    let (Some(count), Some(more)) = (
        field::<u32>(visit.desc, offset!(desc_count)),
        field::<u64>(visit.desc, offset!(desc_more)),
    ) else {
        visit.failed = 1;
        return 1;
    };
    for at in 0..MOST_ENTRIES {
        if at >= count || at >= config!(desc_entries) {
            break;
        }
        match field::<u64>(visit.desc + 8 * u64::from(at), offset!(desc_sptes)) {
            Some(sptep) => match visit.entry {
                Entry::Reread => crate::host::reread(visit.of, sptep, visit.gfn),
                Entry::Clear => crate::entries::cleared(visit.of, sptep),
            },
            None => visit.failed = 1,
        }
    }
    visit.desc = more;
    0
}
