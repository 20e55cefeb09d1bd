//! The kinds of record and their columns: the contract with every reader.
//!
//! Names are never reused or changed; new columns are nullable.

use events::{
    Act, Cause, Class, ErrorCode, Gfn, Gpa, Gpte, Gva, HostEvent, Hpa, Hva, Level, PDPTES,
    PageEvent, Pfn, Role, Seq, Spte, TimeNs, VcpuId, VmId,
};

use crate::{KindInfo, Row as _, table::table};

/// Id of a memslot (`kvm_memory_slot.id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Slot(pub u16);

table! {
    /// One fault, from its first moment to its outcome.
    FaultRow in "faults" {
        /// Place in the order of all records: for a mapping fault, that of its leaf SPTE.
        seq: Seq,
        /// First moment seen, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// VM, counted from 0.
        vm: VmId,
        /// vCPU id within the VM.
        vcpu: VcpuId,
        /// What became of it: guest, shadow, write_protected, unsync, mmio, fast, spurious,
        /// retried, failed.
        class: Class,
        /// Faulting guest virtual address.
        gva: Gva,
        /// Error code of the walk (PFERR_* bits).
        error_code: ErrorCode,
        /// The guest's CR3.
        cr3: Gpa,
        /// Shadow root in use, host-physical.
        root: Hpa,
        /// The guest's instruction pointer, where KVM keeps it readable.
        rip: Option<Gva>,
        /// Guest entry read at level 5; null where the walk had no such level.
        gpte5: Option<Gpte>,
        /// Guest entry read at level 4.
        gpte4: Option<Gpte>,
        /// Guest entry read at level 3.
        gpte3: Option<Gpte>,
        /// Guest entry read at level 2.
        gpte2: Option<Gpte>,
        /// Guest entry read at level 1.
        gpte1: Option<Gpte>,
        /// Guest physical address of the access; null where the guest's tables give none.
        gpa: Option<Gpa>,
        /// Memslot id; null for MMIO and for the guest's own faults.
        slot: Option<Slot>,
        /// Host virtual address of the access in the VMM.
        hva: Option<Hva>,
        /// Host frame of the access (a 4 KiB page).
        pfn: Option<Pfn>,
        /// Host-physical address of the leaf SPTE; null where none was written.
        sptep: Option<Hpa>,
        /// The leaf SPTE as read back after the store.
        spte: Option<Spte>,
        /// Level of the leaf SPTE.
        level: Option<Level>,
        /// Shadow pages created on the way.
        created: u8,
        /// Existing shadow pages looked up on the way.
        reused: u8,
        /// Shadow pages zapped on the way.
        zapped: u8,
        /// First to last moment seen, ns.
        total_ns: u64,
        /// Exit to start of the walk, ns; null where exits are not seen.
        exit_ns: Option<u64>,
        /// Start of the walk to the last guest entry read, ns.
        walk_ns: Option<u64>,
        /// End of the walk to HVA and frame known, ns; null without a probe on the lookup.
        pfn_ns: Option<u64>,
        /// Of pfn_ns, the part after the HVA was known: the host's own tables, ns.
        hva_ns: Option<u64>,
        /// Frame known to upper levels linked, ns; null where pfn_ns is.
        tables_ns: Option<u64>,
        /// End of the walk to upper levels linked, ns, where pfn_ns and tables_ns cannot be
        /// separated.
        pfn_tables_ns: Option<u64>,
        /// Upper levels linked to leaf SPTE stored, ns.
        write_ns: Option<u64>,
        /// End of the walk to injection of the guest's own fault, ns.
        inject_ns: Option<u64>,
        /// Last step before to the end of the instruction's emulation, ns; null where none was
        /// emulated or it is not seen.
        emulate_ns: Option<u64>,
        /// Last step to re-entry, ns; null where entries are not seen.
        entry_ns: Option<u64>,
        /// Of a failed fault: the error that KVM_RUN returned, a positive number of Linux (14:
        /// EFAULT).
        errno: Option<u8>,
        /// How often its thread was switched out between its first and its last moment (65,535
        /// stands for more): its time then holds other work. Null where that is not known.
        switches: Option<u16>,
    }
}

table! {
    /// An SPTE that changed, other than the leaf of a recorded fault.
    EntryRow in "entries" {
        /// Place in the order of all records.
        seq: Seq,
        /// When, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// VM, counted from 0.
        vm: VmId,
        /// vCPU on whose thread it happened.
        vcpu: Option<VcpuId>,
        /// Why: link, prefetch, other, reread (read again after KVM gave a fault up, or after the
        /// VMM changed the VM's memory: it may not have changed), guest_write, sync, invlpg,
        /// host_unmap, dirty_log, write_protect, fault, memslot, mmio.
        cause: Cause,
        /// Host-physical address of the entry.
        sptep: Hpa,
        /// Its new value.
        spte: Spte,
        /// Its value before; null where it was not read.
        old: Option<Spte>,
        /// Level of the table that holds it.
        level: Level,
        /// Guest frame that a leaf maps; null for a link, and where it is not known.
        gfn: Option<Gfn>,
    }
}

table! {
    /// An event in the life of a shadow page.
    PageRow in "pages" {
        /// Place in the order of all records.
        seq: Seq,
        /// When, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// VM, counted from 0.
        vm: VmId,
        /// vCPU on whose thread it happened; null for the VMM's other threads.
        vcpu: Option<VcpuId>,
        /// What: born, reused, unsync, sync, zapped.
        event: PageEvent,
        /// The page of 512 entries, host-physical.
        spt: Hpa,
        /// Guest table it shadows; for a direct page, the first frame it maps.
        gfn: Gfn,
        /// Raw role word; its layout is in meta.json.
        role: Role,
        /// Level of the table.
        level: Level,
        /// 1 for a direct page, which shadows no guest table.
        direct: u8,
        /// 1 if the page was unsync when the event fired.
        unsync: u8,
    }
}

table! {
    #[derive(Default)]
    /// A vCPU was seen on another root than before, or the root of a vCPU at a keyframe: a vCPU
    /// without a row of that keyframe has no root.
    RootRow in "roots" {
        /// Place in the order of all records.
        seq: Seq,
        /// When first seen, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// VM, counted from 0.
        vm: VmId,
        /// vCPU id within the VM.
        vcpu: VcpuId,
        /// The guest's CR3.
        cr3: Gpa,
        /// Shadow root, host-physical.
        root: Hpa,
        /// Level of the shadow root.
        level: Level,
        /// Number of the keyframe that the row is part of; null for a switch.
        keyframe: Option<u32>,
        /// First PDPTE of a PAE root, raw; null for other roots, and where it was not read.
        pdpte0: Option<Spte>,
        /// Second PDPTE.
        pdpte1: Option<Spte>,
        /// Third PDPTE.
        pdpte2: Option<Spte>,
        /// Fourth PDPTE.
        pdpte3: Option<Spte>,
    }
}

impl RootRow {
    /// The four PDPTEs of a PAE root, where they were read.
    pub fn pdptes(&self) -> Option<[Spte; PDPTES]> {
        Some([self.pdpte0?, self.pdpte1?, self.pdpte2?, self.pdpte3?])
    }
}

table! {
    /// A named moment: a phase of the guest, or a keyframe.
    MarkRow in "marks" {
        /// Place in the order of all records.
        seq: Seq,
        /// When, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// VM, counted from 0.
        vm: VmId,
        /// vCPU that marked; null for the collector's own.
        vcpu: Option<VcpuId>,
        /// Name of the phase that begins, or `keyframe`.
        name: String,
        /// The guest's TSC at the mark; null for the collector's own.
        guest_tsc: Option<u64>,
        /// Number of the keyframe, from 0.
        keyframe: Option<u32>,
        /// Pages that the keyframe holds.
        pages: Option<u32>,
        /// How long the VM had been stopped for the keyframe by now, ns; null if it did not run.
        stopped_ns: Option<u64>,
    }
}

table! {
    /// A shadow page as the kernel held it: one row for the page (`index` null) and one for each
    /// entry that is not empty. Rows of one page share their seq.
    KeyframeRow in "keyframes" {
        /// Place in the order of all records.
        seq: Seq,
        /// When it was copied, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// VM, counted from 0.
        vm: VmId,
        /// Always null: the collector copies.
        vcpu: Option<VcpuId>,
        /// Number of the keyframe, from 0.
        keyframe: u32,
        /// The page of 512 entries, host-physical.
        spt: Hpa,
        /// Which entry, 0 to 511; null in the page's own row.
        index: Option<u16>,
        /// The entry, raw; null in the page's own row.
        spte: Option<Spte>,
        /// Guest table that the page shadows.
        gfn: Gfn,
        /// Raw role word.
        role: Role,
        /// Level of the table.
        level: Level,
        /// 1 for a direct page, which shadows no guest table.
        direct: u8,
        /// 1 if the page is unsync.
        unsync: u8,
        /// How many vCPUs hold it as a root.
        root_count: u32,
        /// Guest frame that a leaf maps; null for what is no leaf, for a direct page (`gfn` gives
        /// it), and where the kernel or an older trace does not give it.
        leaf_gfn: Option<Gfn>,
    }
}

table! {
    /// A store of the guest to memory that KVM emulated: all those to shadowed page tables, and
    /// some to other pages. KVM does not see stores to unsync tables. Where functions cannot be
    /// hooked, those to shadowed tables only, each as the eight bytes of the entry afterwards.
    WriteRow in "writes" {
        /// Place in the order of all records.
        seq: Seq,
        /// When, before it takes effect on the shadow tables, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// VM, counted from 0.
        vm: VmId,
        /// vCPU id within the VM.
        vcpu: VcpuId,
        /// Where it went.
        gpa: Gpa,
        /// How many bytes were stored.
        bytes: u32,
        /// The first eight of them as a little-endian number, zero beyond `bytes`.
        value: u64,
    }
}

table! {
    /// Something the host did to a range of the guest's frames: before it takes effect, or, where
    /// functions cannot be hooked, after it, with a look at what it has left.
    HostRow in "host" {
        /// Place in the order of all records.
        seq: Seq,
        /// When, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// VM, counted from 0.
        vm: VmId,
        /// vCPU on whose thread it happened; null for other threads.
        vcpu: Option<VcpuId>,
        /// What: unmap, dirty_start, dirty_clear, dirty_stop, zap_range, flush_slot; reread (each
        /// leaf of the range that is present follows in `entries`) and settled (its other leaves
        /// are gone).
        event: HostEvent,
        /// Memslot; null where the range is in no particular slot.
        slot: Option<Slot>,
        /// First frame.
        gfn: Gfn,
        /// Number of frames.
        pages: u64,
    }
}

table! {
    /// What KVM did to the shadow tables in one piece, with its time: from the call of the function
    /// that does it to its return. A part of the same kind has no row of its own.
    ActRow in "acts" {
        /// Place in the order of all records: that of its end.
        seq: Seq,
        /// When it began, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// VM, counted from 0.
        vm: VmId,
        /// vCPU on whose thread it happened; null for other threads.
        vcpu: Option<VcpuId>,
        /// What: sync_roots, sync, invlpg, write_zap, zap_page, unmap, dirty_start, dirty_clear,
        /// zap_range, flush_slot.
        act: Act,
        /// Its length, ns, the probes' own time included.
        total_ns: u64,
        /// Shadow pages synced meanwhile on its thread.
        synced: u32,
        /// Shadow pages zapped meanwhile on its thread.
        zapped: u32,
    }
}

table! {
    /// Records that could not be kept.
    LossRow in "losses" {
        /// The sequence number that the next record would have got when the loss was read.
        seq: Seq,
        /// When the latest of them was lost, CLOCK_MONOTONIC, ns.
        time_ns: TimeNs,
        /// Always 0 and names no VM: counted for all VMs together.
        vm: VmId,
        /// Always null: counted for all vCPUs together.
        vcpu: Option<VcpuId>,
        /// Which probe lost them: fault, entry, page, root, mark, keyframe, page_map, read, write,
        /// host, act.
        probe: String,
        /// How many.
        count: u64,
        /// When the first of them was lost, CLOCK_MONOTONIC, ns.
        from_ns: TimeNs,
    }
}

/// The mark that ends a keyframe: its pages and roots came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyframeMark {
    /// Number of the keyframe, from 0.
    pub number: u32,
    /// Pages that the keyframe holds.
    pub pages: u32,
    /// How long the VM had been stopped for it, ns.
    pub stopped_ns: Option<u64>,
}

impl MarkRow {
    /// Name of the mark that ends a keyframe.
    pub const KEYFRAME: &str = "keyframe";

    /// The keyframe that ends here; `None` for the mark of a phase.
    pub fn ends_keyframe(&self) -> Option<KeyframeMark> {
        Some(KeyframeMark {
            number: self.keyframe?,
            pages: self.pages?,
            stopped_ns: self.stopped_ns,
        })
    }

    /// The mark that ends a keyframe.
    pub fn of_keyframe(seq: Seq, time_ns: TimeNs, vm: VmId, mark: KeyframeMark) -> Self {
        Self {
            seq,
            time_ns,
            vm,
            vcpu: None,
            name: Self::KEYFRAME.to_owned(),
            guest_tsc: None,
            keyframe: Some(mark.number),
            pages: Some(mark.pages),
            stopped_ns: mark.stopped_ns,
        }
    }
}

/// Calls a macro with every kind of record, in the order in which records with one number are
/// read: its folder (the field of [`Batch`]), its variant of [`crate::Record`], its row, and what the
/// variant holds.
macro_rules! each_kind {
    ($then:ident) => {
        $then! {
            faults Fault FaultRow FaultRow
            entries Entry EntryRow EntryRow
            pages Page PageRow PageRow
            roots Root RootRow RootRow
            marks Mark MarkRow MarkRow
            keyframes Keyframe KeyframeRow KeyframePage
            writes Write WriteRow WriteRow
            host Host HostRow HostRow
            acts Act ActRow ActRow
            losses Loss LossRow LossRow
        }
    };
}
pub(crate) use each_kind;

macro_rules! batch {
    ($($field:ident $kind:ident $row:ident $item:ident)+) => {
        /// Records of one stretch of time, of every kind.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Batch {
            $(
                #[doc = concat!("Kind `", stringify!($field), "`.")]
                pub $field: Vec<$row>,
            )+
        }

        impl Batch {
            /// Rows of all kinds.
            pub fn rows(&self) -> usize {
                0 $(+ self.$field.len())+
            }
        }

        /// Every kind of record.
        pub const KINDS: &[KindInfo] = &[
            $(KindInfo {
                name: $row::KIND,
                columns: $row::COLUMNS,
            },)+
        ];
    };
}
each_kind!(batch);
