//! KVM's reverse maps: the entries that map one frame.

use aya_ebpf::helpers::bpf_loop;
use core::ffi::c_void;
use events::{ABSENT, SHADOWS};

use crate::kernel::{offset, read};

/// `KVM_RMAP_MANY` (6.1: bit 0 of `kvm_rmap_head.val`): a list of entries, not one.
const MANY: u64 = 1;
/// The low bits are marks (Linux 6.14 adds a lock).
const MARKS: u64 = 7;
/// `PTE_LIST_EXT`: entries of a `struct pte_list_desc`.
const IN_DESC: u32 = 14;
/// Most of them in a chain: 4,200 entries of one frame, four times what KVM keeps
/// (`RMAP_RECYCLE_THRESHOLD`).
const MOST_DESCS: u32 = 300;

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
    offset!(desc_more) != ABSENT && offset!(desc_sptes) != ABSENT && offset!(desc_count) != ABSENT
}

/// Reads a head.
#[inline(always)]
pub fn head(at: u64) -> Option<Head> {
    let value: u64 = read(at, 0)?;
    Some(match value & !MARKS {
        0 => Head::Empty,
        one if value & MANY == 0 => Head::One(one),
        desc => Head::Many(desc),
    })
}

/// The first entries of a list; 0 where there are fewer.
#[inline(always)]
pub fn first(desc: u64) -> Option<[u64; SHADOWS]> {
    let count: u32 = read(desc, offset!(desc_count))?;
    let mut entries = [0; SHADOWS];
    for (at, entry) in entries.iter_mut().enumerate() {
        if (at as u32) < count {
            *entry = read(desc + 8 * at as u64, offset!(desc_sptes))?;
        }
    }
    Some(entries)
}

/// What is done with each entry of a list, and for whom.
#[repr(C)]
pub struct Visit {
    /// The rest of the list; 0 at its end.
    desc: u64,
    /// Something could not be read.
    failed: u64,
    /// For `entry`.
    of: u64,
    /// For `entry`.
    gfn: u64,
    entry: Entry,
}

/// What is done.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Entry {
    /// It is recorded as it is: `of` is the VM's number.
    Reread = 0,
    /// It is recorded as cleared: `of` is `struct kvm`.
    Clear = 1,
}

/// Goes through a list to its end; false if that cannot be read.
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

/// Called for each `struct pte_list_desc`; 0: go on.
#[inline(never)]
unsafe extern "C" fn visit_desc(_: u64, visit: *mut Visit) -> i64 {
    // SAFETY: what the helper hands over.
    let visit = unsafe { &mut *visit };
    if visit.desc == 0 {
        return 1;
    }
    let (Some(count), Some(more)) = (
        read::<u32>(visit.desc, offset!(desc_count)),
        read::<u64>(visit.desc, offset!(desc_more)),
    ) else {
        visit.failed = 1;
        return 1;
    };
    for at in 0..IN_DESC {
        if at >= count {
            break;
        }
        match read::<u64>(visit.desc + 8 * u64::from(at), offset!(desc_sptes)) {
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
