//! Copies of the kernel's own shadow pages, many at each run, by several threads.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_loop, generated::bpf_probe_read_kernel},
    macros::map,
    macros::raw_tracepoint,
    maps::{Array, PerCpuArray},
    programs::RawTracePointContext,
};
use aya_log_ebpf::{debug, warn};
use bytemuck::Zeroable as _;
use events::{
    ENTRIES_PER_TABLE, Gfn, KEYFRAME_BATCH, KEYFRAME_WORKERS, KeyframeCursor, KeyframeEntry,
    KeyframePage, NO_VCPU, Probe, Role, Spte, VcpuId, VcpuKey, VmId, constants::LIST_HEAD_PREV,
    page_share,
};

use crate::{
    kernel::{Window, now, offset, physical, read, role_level},
    pages,
    ring::{has_room, header, lose, next_seq, send},
    roots, vcpus,
};

/// How far each thread has come with the keyframe.
#[map]
static CURSOR: Array<KeyframeCursor> = Array::with_max_entries(KEYFRAME_WORKERS, vcpus::USER_READS);

/// Where a page is copied to, and its record is put together: too large for the stack.
#[map]
static COPY: PerCpuArray<Copy> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
struct Copy {
    record: KeyframePage,
    entries: [KeyframeEntry; ENTRIES_PER_TABLE],
    table: [u64; ENTRIES_PER_TABLE],
    /// Of the whole page, where it has many entries.
    translations: [u64; ENTRIES_PER_TABLE],
    /// Entries that are not empty so far.
    count: u64,
}

/// One run of the program. What changes is in maps: the verifier follows a loop's body once.
#[repr(C)]
struct Walk {
    cursor: *mut KeyframeCursor,
    copy: *mut Copy,
    /// The list of shadow pages.
    head: u64,
    vm: VmId,
    /// Number of the keyframe.
    number: u32,
    worker: u32,
    /// How many threads there are, less one; they are a power of two.
    others: u32,
    copies: u32,
    remembers: u32,
}

/// Pages in a row that one thread copies.
const ROW: u32 = 64;

/// Run by user space until its cursor's `done`: `arg` 0 VM, 1 number of the keyframe, 2 which of the
/// threads this is, 3 how many there are, 4 not 0 to begin, 5 not 0 to copy the pages, 6 not 0 to
/// remember them. Each thread passes the whole list, and copies its rows of it.
///
/// The list is read without `mmu_lock`, which a program cannot take: the caller stops the vCPUs,
/// and what the host takes back meanwhile is noticed by the links between neighbours.
#[raw_tracepoint]
pub fn keyframe(ctx: RawTracePointContext) {
    let worker = ctx.arg::<u64>(2) as u32;
    let (Some(cursor), Some(copy)) = (CURSOR.get_ptr_mut(worker), COPY.get_ptr_mut(0)) else {
        return;
    };
    let mut walk = Walk {
        cursor,
        copy,
        head: 0,
        vm: VmId(ctx.arg::<u64>(0) as u16),
        number: ctx.arg::<u64>(1) as u32,
        worker,
        others: (ctx.arg::<u64>(3) as u32).wrapping_sub(1),
        copies: ctx.arg::<u64>(5) as u32,
        remembers: ctx.arg::<u64>(6) as u32,
    };
    // SAFETY: a map value; each thread has its own, and user space takes one keyframe at a time.
    let cursor = unsafe { &mut *cursor };
    let kvm = vcpus::kvm(walk.vm);
    let Some(head) = kvm.and_then(|kvm| offset!(kvm_active_mmu_pages).of(kvm)) else {
        cursor.failed = 1;
        return;
    };
    walk.head = head;
    if ctx.arg::<u64>(4) != 0 {
        *cursor = KeyframeCursor::zeroed();
        // `list_head.next` is the first field.
        let Some(first) = read(head) else {
            cursor.failed = 1;
            return;
        };
        cursor.next = first;
        cursor.before = head;
    }
    // SAFETY: the callback takes the walk.
    unsafe {
        bpf_loop(
            KEYFRAME_BATCH,
            visit as *mut c_void,
            (&raw mut walk).cast(),
            0,
        )
    };
    debug!(
        &ctx,
        "keyframe {}: {} pages passed", walk.number, cursor.listed
    );
    if cursor.lost != 0 {
        warn!(
            &ctx,
            "keyframe {}: {} pages cannot be copied", walk.number, cursor.lost
        );
    }
}

// `visit` reads both at once.
const _: () = assert!(LIST_HEAD_PREV == 8);

/// Called for each page; 0: continue.
#[inline(never)]
unsafe extern "C" fn visit(_: u64, walk: *const Walk) -> i64 {
    // SAFETY: the helper passes what the caller gave it, and that points to map values.
    let (walk, cursor) = unsafe { (&*walk, &mut *(*walk).cursor) };
    let link = cursor.next;
    match read::<[u64; 2]>(link) {
        Some([next, before]) if before == cursor.before => {
            if link == walk.head {
                cursor.done = 1;
                return 1;
            }
            if !page(walk, cursor, link) {
                return 1;
            }
            cursor.next = next;
            cursor.before = link;
            cursor.listed += 1;
            0
        }
        _ => {
            cursor.failed = 1;
            1
        }
    }
}

/// Does this thread's part for the page linked at `link`; false: again once the ring has been
/// drained.
#[inline(always)]
fn page(walk: &Walk, cursor: &mut KeyframeCursor, link: u64) -> bool {
    let is_own = cursor.listed / ROW & walk.others == walk.worker;
    if !is_own && walk.remembers == 0 {
        return true;
    }
    if is_own && walk.copies != 0 && !has_room(LONGEST) {
        return false;
    }
    let Some(found) = Found::read(link) else {
        if is_own {
            cursor.lost += 1;
            lose(Probe::Keyframe);
        }
        return true;
    };
    // Before it is copied: a page without room is still followed. The pages of one guest table are
    // remembered by one thread.
    if walk.remembers != 0 && found.gfn as u32 & walk.others == walk.worker {
        pages::remember(walk.vm, found.spt, found.role, Gfn(found.gfn));
    }
    if is_own {
        cursor.sum = cursor.sum.wrapping_add(page_share(found.spt));
        if walk.copies != 0 && copy(walk, &found).is_none() {
            cursor.lost += 1;
            lose(Probe::Keyframe);
        }
    }
    true
}

/// A page's own fields.
struct Found {
    spt: u64,
    gfn: u64,
    /// Where the frames of the page's leaves are; 0 for a page, or a kernel, that keeps none.
    translations: u64,
    role: u32,
    root_count: u32,
    unsync: u8,
}

impl Found {
    /// Of the page whose `link` is at this address; nothing if it is no page.
    #[inline(always)]
    fn read(link: u64) -> Option<Self> {
        // From the first field to the last of these.
        let sp = Window::<72>::read(offset!(sp_link).container(link)?, offset!(sp_link))?;
        let translations = match offset!(sp_translation).is_there() {
            true => sp.get(offset!(sp_translation))?,
            false => 0,
        };
        let found = Self {
            spt: sp.get(offset!(sp_spt))?,
            gfn: sp.get(offset!(sp_gfn))?,
            translations,
            role: sp.get(offset!(sp_role))?,
            root_count: sp.get(offset!(sp_root_count))?,
            unsync: sp.get(offset!(sp_unsync))?,
        };
        let is_page = found.spt & 0xfff == 0 && (1..=5).contains(&role_level(found.role));
        is_page.then_some(found)
    }
}

/// Bytes of a table, and of its translations.
const TABLE: u32 = 8 * ENTRIES_PER_TABLE as u32;
/// Bytes of the longest record.
const LONGEST: u64 = (size_of::<KeyframePage>() + size_of::<KeyframeEntry>() * 512) as u64;
/// Translations that are read one by one: reading all costs as much as sixteen.
const FEW: u64 = 16;

/// Sends the record of a page.
#[inline(always)]
fn copy(walk: &Walk, found: &Found) -> Option<()> {
    // SAFETY: this CPU's value of a map; nothing else that uses it comes in between.
    let copy = unsafe { &mut *walk.copy };
    let (seq, time) = (next_seq(), now());
    // SAFETY: room for a table; the helper checks the address it reads.
    if unsafe { bpf_probe_read_kernel((&raw mut copy.table).cast(), TABLE, found.spt as *const _) }
        != 0
    {
        return None;
    }
    gather(copy);
    let count = copy.count;
    if count > ENTRIES_PER_TABLE as u64 {
        return None;
    }
    if found.translations != 0 {
        translate(copy, found.translations, count)?;
    }
    copy.record = KeyframePage {
        header: header::<KeyframePage>(seq, walk.vm, NO_VCPU, time),
        spt: physical(found.spt),
        gfn: Gfn(found.gfn),
        role: Role(found.role),
        keyframe: walk.number,
        root_count: found.root_count,
        count: count as u16,
        unsync: found.unsync,
        has_frames: u8::from(found.translations != 0),
    };
    let bytes = size_of::<KeyframePage>() + size_of::<KeyframeEntry>() * count as usize;
    // SAFETY: the record and its entries, one after the other in a map value.
    unsafe { send((&raw const copy.record).cast(), bytes) }
}

/// Entries looked at together: in a page with few most of the eights are empty.
const TOGETHER: usize = 8;

/// Lists the entries that are not empty.
#[inline(always)]
fn gather(copy: &mut Copy) {
    copy.count = 0;
    for eighth in 0..ENTRIES_PER_TABLE / TOGETHER {
        let first = TOGETHER * eighth;
        let mut any = 0;
        for index in first..first + TOGETHER {
            any |= copy.table[index % ENTRIES_PER_TABLE];
        }
        if any == 0 {
            continue;
        }
        for index in first..first + TOGETHER {
            let spte = Spte(copy.table[index % ENTRIES_PER_TABLE]);
            if !spte.is_empty() {
                // Kept in memory: the verifier would follow every value it can have.
                // SAFETY: a reference is valid for reads and writes.
                let at = unsafe { (&raw const copy.count).read_volatile() } as usize;
                copy.entries[at % ENTRIES_PER_TABLE] = KeyframeEntry::new(index as u16, spte, 0);
                // SAFETY: as above.
                unsafe { (&raw mut copy.count).write_volatile(at as u64 + 1) };
            }
        }
    }
}

/// Adds what KVM keeps for the entries.
#[inline(always)]
fn translate(copy: &mut Copy, translations: u64, count: u64) -> Option<()> {
    if count <= FEW {
        for at in 0..FEW {
            if at >= count {
                break;
            }
            let entry = &mut copy.entries[at as usize % ENTRIES_PER_TABLE];
            let translation = read(translations + 8 * u64::from(entry.index()))?;
            *entry = KeyframeEntry::new(entry.index(), entry.spte, translation);
        }
        return Some(());
    }
    // SAFETY: room for a table; the helper checks the address it reads.
    if unsafe {
        bpf_probe_read_kernel(
            (&raw mut copy.translations).cast(),
            TABLE,
            translations as *const _,
        )
    } != 0
    {
        return None;
    }
    for at in 0..ENTRIES_PER_TABLE {
        if at as u64 >= count {
            break;
        }
        let entry = &mut copy.entries[at % ENTRIES_PER_TABLE];
        let translation = copy.translations[usize::from(entry.index()) % ENTRIES_PER_TABLE];
        *entry = KeyframeEntry::new(entry.index(), entry.spte, translation);
    }
    Some(())
}

/// Run by user space for each vCPU once the pages are copied, until the first cursor's `vcpus`
/// counts it: `arg` 0 VM, 1 number of the keyframe, 2 vCPU. The vCPUs are stopped.
#[raw_tracepoint]
pub fn keyframe_root(ctx: RawTracePointContext) {
    let Some(cursor) = CURSOR.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: user space runs one keyframe at a time.
    let cursor = unsafe { &mut *cursor };
    if !has_room(size_of::<events::KeyframeRoot>() as u64) {
        // The caller comes back when the ring has been drained.
        return;
    }
    let key = VcpuKey {
        vm: VmId(ctx.arg::<u64>(0) as u16),
        vcpu: VcpuId(ctx.arg::<u64>(2) as u16),
    };
    match roots::copy(key, ctx.arg::<u64>(1) as u32) {
        Some(()) => cursor.vcpus += 1,
        None => {
            cursor.failed = 1;
            lose(Probe::Root);
            warn!(&ctx, "the root of vCPU {} cannot be copied", key.vcpu.0);
        }
    }
}
