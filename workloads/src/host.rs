//! What the VMM does beside running the guest: its memory, and actors that disturb it.

use std::time::Duration;

use abi::{FrameRange, Gpa};

/// The host's part in a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The memslots at the start. The first begins at guest-physical address 0; together they
    /// cover the guest's memory.
    pub slots: Vec<Slot>,
    /// Actors, each on a thread of its own while the guest runs.
    pub actors: Vec<Actor>,
    /// Most shadow pages that KVM may keep (`KVM_SET_NR_MMU_PAGES`); `None`: KVM's own choice.
    pub mmu_pages: Option<u64>,
}

/// A memslot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// KVM's slot number.
    pub id: u16,
    /// First guest-physical byte.
    pub gpa: Gpa,
    /// Size in bytes.
    pub bytes: u64,
    /// What is behind it.
    pub backing: Backing,
}

/// Host memory behind a memslot: private, anonymous, not prefaulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Pages of 4 KiB only (`MADV_NOHUGEPAGE`).
    Small,
    /// Transparent huge pages where the host has them (`MADV_HUGEPAGE`), aligned to 2 MiB.
    Huge,
}

/// Something that the host does again and again while the guest runs. After each pass it adds
/// one to the host page's `passes` and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Takes guest memory back (mmu-notifier): in turn over chunks of `chunk_frames` frames.
    Reclaim {
        /// Frames whose content is thrown away: they read zero afterwards (`MADV_DONTNEED`).
        discard: FrameRange,
        /// Frames that keep their content but move in the host: `mprotect` to read-only and back,
        /// and `mremap` away and back, in turn.
        disturb: FrameRange,
        /// Frames of a chunk.
        chunk_frames: u64,
        /// Pause between two chunks.
        every: Duration,
    },
    /// Live migration's loop: dirty logging on for a memslot, `KVM_GET_DIRTY_LOG` (or, with
    /// `clear`, `KVM_CLEAR_DIRTY_LOG` of what was got) in each pass, off at the end and, with
    /// `toggle`, off and on again after every eighth pass.
    DirtyLog {
        /// The memslot's number.
        slot: u16,
        /// `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`, if KVM has it.
        clear: bool,
        /// Off and on again while the guest runs.
        toggle: bool,
        /// Pause between two passes.
        every: Duration,
    },
    /// Memslots under the guest, in each pass one of: the slot deleted and added again; the slot
    /// moved to `window` and back; a spare slot, which the guest does not use, added and deleted.
    Memslots {
        /// The memslot's number. Where it is not, the VMM itself serves the guest's accesses from
        /// the slot's memory.
        slot: u16,
        /// A second place for it, of the same size.
        window: Gpa,
        /// Pause between two passes.
        every: Duration,
    },
}
