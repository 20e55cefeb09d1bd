//! The host's part of a workload: the guest's memory, and actors that disturb the guest.

use std::time::Duration;

use abi::{FrameRange, Gpa};

/// The host's part of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The memslots at the start. The first begins at guest-physical address 0; together they cover
    /// the guest's memory.
    pub slots: Vec<Slot>,
    /// Actors, each on its own thread while the guest runs.
    pub actors: Vec<Actor>,
    /// Maximum number of shadow pages (`KVM_SET_NR_MMU_PAGES`); `None`: KVM's default.
    pub mmu_pages: Option<u64>,
    /// The memory is also that of system management mode.
    pub smm: bool,
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
    /// The host memory that backs it.
    pub backing: Backing,
}

/// The host memory of a memslot: private, anonymous, not prefaulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Pages of 4 KiB only (`MADV_NOHUGEPAGE`).
    Small,
    /// As `Huge`, but 4 KiB further on in a huge page than the guest-physical address, so that no
    /// huge page can be mapped in both.
    Shifted,
    /// Transparent huge pages where the host has them (`MADV_HUGEPAGE`), aligned to 2 MiB.
    Huge,
}

/// Something that the host does repeatedly while the guest runs. After each pass it increments
/// `passes` in the host page and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Reclaims guest memory (mmu-notifier), one chunk of `chunk_frames` frames after another.
    Reclaim {
        /// Frames whose content is discarded: they read zero afterwards (`MADV_DONTNEED`).
        discard: FrameRange,
        /// Frames that keep their content: `mprotect` to read-only and back, and `mremap` away and
        /// back, in turn.
        disturb: FrameRange,
        /// Frames of a chunk.
        chunk_frames: u64,
        /// Pause between two chunks.
        every: Duration,
    },
    /// The loop of live migration: switches dirty logging on for a memslot, calls
    /// `KVM_GET_DIRTY_LOG` (and with `clear` also `KVM_CLEAR_DIRTY_LOG`) in each pass, and switches
    /// it off at the end. With `toggle` it is also switched off and on again after every eighth
    /// pass.
    DirtyLog {
        /// The memslot's number.
        slot: u16,
        /// Use `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`, if KVM has it.
        clear: bool,
        /// Switch logging off and on again while the guest runs.
        toggle: bool,
        /// Pause between two passes.
        every: Duration,
    },
    /// Changes memslots. Each pass does one of these: deletes the slot and adds it again; moves it
    /// to `window` and back; adds and deletes a spare slot, which the guest does not use.
    Memslots {
        /// The memslot's number. While it is away the VMM serves the guest's accesses from the
        /// slot's memory.
        slot: u16,
        /// A second guest-physical address for it.
        window: Gpa,
        /// Pause between two passes.
        every: Duration,
    },
}
