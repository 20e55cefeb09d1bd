//! Bytes of the ring to rows of the trace: a pure function.

use bytemuck::AnyBitPattern;
use events::{
    Act, ActDone, COLLECTOR_MARK_BASE, Cause, Class, Entry, Fault, Header, Host, HostEvent,
    KeyframeEntry, KeyframePage, KeyframeRoot, Level, MOMENTS, Mark, Moment, NO_VCPU, NOT_SEEN,
    PDPTES, PaeRoot, Page, PageEvent, Pfn, RecordKind, RoleLayout, Root, Spte, VcpuId, Write,
    constants::PAE_ROOT_LEVEL,
};
use trace::{
    ActRow, Batch, EntryRow, FaultRow, HostRow, KeyframeMark, KeyframeRow, MarkRow, PageRow,
    RootRow, Slot, WriteRow,
};

/// Bytes that the probes never write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No header.
    #[error("a record of {0} bytes, shorter than its header")]
    Short(usize),
    /// An unknown kind.
    #[error("a record of unknown kind {0}")]
    Kind(u16),
    /// The kind has another length.
    #[error("a record of kind {kind:?} with {found} bytes instead of {expected}")]
    Length {
        /// What the header says.
        kind: RecordKind,
        /// Its length.
        found: usize,
        /// The length of its kind.
        expected: usize,
    },
    /// A number that names nothing.
    #[error("{0} in a field of a record of kind {1:?} that names one of a few things")]
    Number(u8, RecordKind),
}

/// Adds the record to the rows of its kind.
pub fn decode(
    bytes: &[u8],
    layout: &RoleLayout,
    mark_name: fn(u32) -> String,
    batch: &mut Batch,
) -> Result<(), DecodeError> {
    let header: Header = bytes
        .get(..size_of::<Header>())
        .and_then(|start| bytemuck::try_pod_read_unaligned(start).ok())
        .ok_or(DecodeError::Short(bytes.len()))?;
    let kind = RecordKind::from_raw(header.kind).ok_or(DecodeError::Kind(header.kind))?;
    match kind {
        RecordKind::Fault => batch.faults.push(fault(&read(kind, bytes)?)?),
        RecordKind::Entry => batch.entries.push(entry(&read(kind, bytes)?)?),
        RecordKind::Page => batch.pages.push(page(&read(kind, bytes)?, layout)?),
        RecordKind::Root => batch.roots.push(root(&read(kind, bytes)?)),
        RecordKind::PaeRoot => batch.roots.push(pae_root(&read(kind, bytes)?)),
        RecordKind::KeyframeRoot => batch.roots.push(keyframe_root(&read(kind, bytes)?)),
        RecordKind::Mark => batch.marks.push(mark(&read(kind, bytes)?, mark_name)),
        RecordKind::Write => batch.writes.push(write(&read(kind, bytes)?)),
        RecordKind::Host => batch.host.push(host(&read(kind, bytes)?)?),
        RecordKind::ActDone => batch.acts.push(act(&read(kind, bytes)?)?),
        RecordKind::KeyframePage => keyframe(bytes, layout, &mut batch.keyframes)?,
    }
    Ok(())
}

fn read<T: AnyBitPattern>(kind: RecordKind, bytes: &[u8]) -> Result<T, DecodeError> {
    bytemuck::try_pod_read_unaligned(bytes).map_err(|_| DecodeError::Length {
        kind,
        found: bytes.len(),
        expected: size_of::<T>(),
    })
}

fn vcpu(header: &Header) -> Option<VcpuId> {
    (header.vcpu != NO_VCPU).then_some(header.vcpu)
}

/// The moments of a fault, ns from the first one.
struct Moments<'a>(&'a [u64; MOMENTS]);

impl Moments<'_> {
    fn get(&self, moment: Moment) -> Option<u64> {
        Some(self.0[moment as usize]).filter(|&ns| ns != NOT_SEEN)
    }

    /// A phase lasts from one moment seen to another; without either there is none.
    fn phase(&self, from: Moment, to: Moment) -> Option<u64> {
        self.get(to)?.checked_sub(self.get(from)?)
    }

    /// From the last moment seen before it to `end`.
    fn last_step(&self, end: Moment) -> Option<u64> {
        let end = self.get(end)?;
        let before = self.0.iter().copied().filter(|&ns| ns < end).max()?;
        end.checked_sub(before)
    }

    /// The last one seen.
    fn last(&self) -> u64 {
        let seen = self.0.iter().copied().filter(|&ns| ns != NOT_SEEN);
        seen.max().unwrap_or(0)
    }
}

fn fault(fault: &Fault) -> Result<FaultRow, DecodeError> {
    let knows = |what: u8| fault.known & what != 0;
    let gpte =
        |level: usize| (fault.gpte_levels >> (level - 1) & 1 != 0).then(|| fault.gptes[level - 1]);
    let offset = fault.gva.page_offset();
    let moments = Moments(&fault.moments);
    let phase = |from: Moment, to: Moment| moments.phase(from, to);
    Ok(FaultRow {
        seq: fault.header.seq,
        time_ns: fault.header.time,
        vm: fault.header.vm,
        vcpu: fault.header.vcpu,
        class: Class::from_raw(fault.class)
            .ok_or(DecodeError::Number(fault.class, RecordKind::Fault))?,
        gva: fault.gva,
        error_code: fault.error_code,
        cr3: fault.cr3,
        root: fault.root,
        rip: knows(Fault::RIP).then_some(fault.rip),
        gpte5: gpte(5),
        gpte4: gpte(4),
        gpte3: gpte(3),
        gpte2: gpte(2),
        gpte1: gpte(1),
        gpa: knows(Fault::MAPPING).then(|| fault.gfn.gpa(offset)),
        slot: knows(Fault::SLOT).then_some(Slot(fault.slot)),
        hva: knows(Fault::SLOT).then(|| events::Hva(fault.hva.0.wrapping_add(offset))),
        pfn: knows(Fault::SLOT).then_some(Pfn(fault.pfn.0)),
        sptep: knows(Fault::LEAF).then_some(fault.sptep),
        spte: knows(Fault::LEAF).then_some(fault.spte),
        level: knows(Fault::LEAF).then_some(Level(fault.level)),
        created: fault.created,
        reused: fault.reused,
        zapped: fault.zapped,
        total_ns: moments.last(),
        exit_ns: phase(Moment::Exit, Moment::WalkBegin),
        walk_ns: phase(Moment::WalkBegin, Moment::WalkEnd),
        pfn_ns: phase(Moment::WalkEnd, Moment::PfnKnown),
        hva_ns: phase(Moment::HvaKnown, Moment::PfnKnown),
        tables_ns: phase(Moment::PfnKnown, Moment::TablesReady),
        pfn_tables_ns: match moments.get(Moment::PfnKnown) {
            Some(_) => None,
            None => phase(Moment::WalkEnd, Moment::TablesReady),
        },
        write_ns: phase(Moment::TablesReady, Moment::Written),
        inject_ns: phase(Moment::WalkEnd, Moment::Injected),
        emulate_ns: moments.last_step(Moment::Emulated),
        entry_ns: moments.last_step(Moment::Entry),
        errno: (fault.class == Class::Failed as u8).then_some(fault.errno),
        switches: knows(Fault::SWITCHES).then_some(fault.switches),
    })
}

fn entry(entry: &Entry) -> Result<EntryRow, DecodeError> {
    let cause =
        Cause::from_raw(entry.cause).ok_or(DecodeError::Number(entry.cause, RecordKind::Entry))?;
    Ok(EntryRow {
        seq: entry.header.seq,
        time_ns: entry.header.time,
        vm: entry.header.vm,
        vcpu: vcpu(&entry.header),
        cause,
        sptep: entry.sptep,
        spte: entry.spte,
        old: (entry.known & Entry::OLD != 0).then_some(entry.old),
        level: Level(entry.level),
        gfn: (entry.known & Entry::GFN != 0).then_some(entry.gfn),
    })
}

fn write(write: &Write) -> WriteRow {
    WriteRow {
        seq: write.header.seq,
        time_ns: write.header.time,
        vm: write.header.vm,
        vcpu: write.header.vcpu,
        gpa: write.gpa,
        bytes: write.bytes,
        value: write.value,
    }
}

fn act(done: &ActDone) -> Result<ActRow, DecodeError> {
    Ok(ActRow {
        seq: done.header.seq,
        time_ns: done.header.time,
        vm: done.header.vm,
        vcpu: vcpu(&done.header),
        act: Act::from_raw(done.act).ok_or(DecodeError::Number(done.act, RecordKind::ActDone))?,
        total_ns: done.total,
        synced: done.synced,
        zapped: done.zapped,
    })
}

fn host(host: &Host) -> Result<HostRow, DecodeError> {
    Ok(HostRow {
        seq: host.header.seq,
        time_ns: host.header.time,
        vm: host.header.vm,
        vcpu: vcpu(&host.header),
        event: HostEvent::from_raw(host.event)
            .ok_or(DecodeError::Number(host.event, RecordKind::Host))?,
        slot: (host.slot != Host::NO_SLOT).then_some(Slot(host.slot)),
        gfn: host.gfn,
        pages: host.pages,
    })
}

fn page(page: &Page, layout: &RoleLayout) -> Result<PageRow, DecodeError> {
    Ok(PageRow {
        seq: page.header.seq,
        time_ns: page.header.time,
        vm: page.header.vm,
        vcpu: vcpu(&page.header),
        event: PageEvent::from_raw(page.event)
            .ok_or(DecodeError::Number(page.event, RecordKind::Page))?,
        spt: page.spt,
        gfn: page.gfn,
        role: page.role,
        level: page.role.level(layout),
        direct: u8::from(page.role.is_direct(layout)),
        unsync: u8::from(page.unsync != 0),
    })
}

fn root(root: &Root) -> RootRow {
    RootRow {
        seq: root.header.seq,
        time_ns: root.header.time,
        vm: root.header.vm,
        vcpu: root.header.vcpu,
        cr3: root.cr3,
        root: root.root,
        level: Level(root.level),
        keyframe: None,
        pdpte0: None,
        pdpte1: None,
        pdpte2: None,
        pdpte3: None,
    }
}

fn pae_root(record: &PaeRoot) -> RootRow {
    with_pdptes(root(&record.root), record.pdptes)
}

fn keyframe_root(copy: &KeyframeRoot) -> RootRow {
    RootRow {
        keyframe: Some(copy.keyframe),
        ..with_pdptes(root(&copy.root), copy.pdptes)
    }
}

fn with_pdptes(row: RootRow, pdptes: [Spte; PDPTES]) -> RootRow {
    let [pdpte0, pdpte1, pdpte2, pdpte3] = match row.level {
        Level(PAE_ROOT_LEVEL) => pdptes.map(Some),
        _ => [None; PDPTES],
    };
    RootRow {
        pdpte0,
        pdpte1,
        pdpte2,
        pdpte3,
        ..row
    }
}

fn mark(mark: &Mark, mark_name: fn(u32) -> String) -> MarkRow {
    let header = &mark.header;
    if mark.mark == COLLECTOR_MARK_BASE {
        let ended = KeyframeMark {
            number: mark.keyframe,
            // KVM has no more shadow pages than an `unsigned int` counts.
            pages: u32::try_from(mark.value).unwrap_or(u32::MAX),
            stopped_ns: Some(mark.stopped_ns).filter(|&ns| ns != NOT_SEEN),
        };
        return MarkRow::of_keyframe(header.seq, header.time, header.vm, ended);
    }
    MarkRow {
        seq: header.seq,
        time_ns: header.time,
        vm: header.vm,
        vcpu: vcpu(header),
        name: mark_name(mark.mark),
        guest_tsc: Some(mark.value),
        keyframe: None,
        pages: None,
        stopped_ns: None,
    }
}

fn keyframe(
    bytes: &[u8],
    layout: &RoleLayout,
    rows: &mut Vec<KeyframeRow>,
) -> Result<(), DecodeError> {
    let (start, entries) = bytes
        .split_at_checked(size_of::<KeyframePage>())
        .unwrap_or((bytes, &[]));
    let page: KeyframePage = read(RecordKind::KeyframePage, start)?;
    let expected = usize::from(page.count) * size_of::<KeyframeEntry>();
    if entries.len() != expected {
        return Err(DecodeError::Length {
            kind: RecordKind::KeyframePage,
            found: bytes.len(),
            expected: start.len() + expected,
        });
    }
    let level = page.role.level(layout);
    let whole = KeyframeRow {
        seq: page.header.seq,
        time_ns: page.header.time,
        vm: page.header.vm,
        vcpu: vcpu(&page.header),
        keyframe: page.keyframe,
        spt: page.spt,
        index: None,
        spte: None,
        gfn: page.gfn,
        role: page.role,
        level,
        direct: u8::from(page.role.is_direct(layout)),
        unsync: u8::from(page.unsync != 0),
        root_count: page.root_count,
        leaf_gfn: None,
    };
    rows.push(KeyframeRow { ..whole });
    for entry in entries.chunks_exact(size_of::<KeyframeEntry>()) {
        let entry: KeyframeEntry = read(RecordKind::KeyframePage, entry)?;
        let has_frame = page.has_frames != 0 && entry.spte.is_leaf(level);
        rows.push(KeyframeRow {
            index: Some(entry.index()),
            spte: Some(entry.spte),
            leaf_gfn: has_frame.then(|| entry.gfn()),
            ..whole
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use events::{Seq, Spte};
    use proptest::prelude::*;
    use trace::Row;

    use super::*;

    fn name(mark: u32) -> String {
        format!("phase {mark}")
    }

    fn numbers(batch: &Batch) -> Vec<Seq> {
        fn of<R: Row>(rows: &[R]) -> impl Iterator<Item = Seq> {
            rows.iter().map(Row::seq)
        }
        of(&batch.faults)
            .chain(of(&batch.entries))
            .chain(of(&batch.pages))
            .chain(of(&batch.roots))
            .chain(of(&batch.marks))
            .chain(of(&batch.keyframes))
            .chain(of(&batch.writes))
            .chain(of(&batch.host))
            .chain(of(&batch.acts))
            .collect()
    }

    proptest! {
        #[test]
        fn any_bytes_give_rows_or_an_error(
            kind in 0u16..13,
            mut bytes in proptest::collection::vec(any::<u8>(), 0..9000),
            layout in any::<[u8; size_of::<RoleLayout>()]>(),
        ) {
            if let Some(place) = bytes.get_mut(16..18) {
                place.copy_from_slice(&kind.to_ne_bytes());
            }
            let layout = bytemuck::cast(layout);
            let _ = decode(&bytes, &layout, name, &mut Batch::default());
        }

        #[test]
        fn any_record_of_the_right_length_keeps_its_number(
            place in 0usize..11,
            fill in 0u8..14,
            seq in any::<u64>(),
        ) {
            let entries = usize::from(fill) << 8 | usize::from(fill);
            let (kind, length) = [
                (RecordKind::Fault, size_of::<Fault>()),
                (RecordKind::Entry, size_of::<Entry>()),
                (RecordKind::Page, size_of::<Page>()),
                (RecordKind::Root, size_of::<Root>()),
                (RecordKind::Mark, size_of::<Mark>()),
                (RecordKind::Write, size_of::<Write>()),
                (RecordKind::Host, size_of::<Host>()),
                (RecordKind::KeyframeRoot, size_of::<KeyframeRoot>()),
                (RecordKind::PaeRoot, size_of::<PaeRoot>()),
                (RecordKind::ActDone, size_of::<ActDone>()),
                (
                    RecordKind::KeyframePage,
                    size_of::<KeyframePage>() + entries * size_of::<KeyframeEntry>(),
                ),
            ][place];
            let mut bytes = vec![fill; length];
            bytes[..8].copy_from_slice(&seq.to_ne_bytes());
            bytes[16..18].copy_from_slice(&(kind as u16).to_ne_bytes());
            let mut batch = Batch::default();
            match decode(&bytes, &RoleLayout::default(), name, &mut batch) {
                Ok(()) => {
                    let numbers = numbers(&batch);
                    prop_assert!(!numbers.is_empty());
                    prop_assert!(numbers.iter().all(|&number| number == Seq(seq)));
                }
                Err(error) => prop_assert!(matches!(error, DecodeError::Number(..))),
            }
        }
    }

    /// A page with an entry that points to a table, an empty place, and a leaf.
    #[test]
    fn a_page_has_its_entries_and_the_frames_of_its_leaves() {
        let mut page = KeyframePage::zeroed();
        page.header.kind = RecordKind::KeyframePage as u16;
        (page.count, page.has_frames) = (2, 1);
        page.role = events::Role(2);
        let layout = RoleLayout {
            level: [0, 4],
            ..RoleLayout::default()
        };
        let [table, leaf] = [Spte(0x5000 | 1 << 11), Spte(0x20_0000 | 1 << 11 | 1 << 7)];
        let entries = [
            KeyframeEntry::new(3, table, 0x7007),
            KeyframeEntry::new(511, leaf, 0x40_0007),
        ];
        let bytes = [bytemuck::bytes_of(&page), bytemuck::cast_slice(&entries)].concat();
        let mut batch = Batch::default();
        decode(&bytes, &layout, name, &mut batch).expect("a page");
        let rows = batch.keyframes.iter();
        let rows: Vec<_> = rows
            .map(|row| (row.index, row.spte, row.leaf_gfn))
            .collect();
        assert_eq!(
            rows,
            [
                (None, None, None),
                (Some(3), Some(table), None),
                (Some(511), Some(leaf), Some(events::Gfn(0x400))),
            ]
        );
        let cut = decode(&bytes[..bytes.len() - 8], &layout, name, &mut batch);
        let is_length = matches!(cut, Err(DecodeError::Length { expected: 88, .. }));
        assert!(is_length, "{cut:?}");
    }

    #[test]
    fn steps_that_were_not_seen_are_absent() {
        let mut seen = Fault::zeroed();
        seen.header.kind = RecordKind::Fault as u16;
        seen.class = Class::Shadow as u8;
        seen.moments = [NOT_SEEN; events::MOMENTS];
        seen.moments[Moment::WalkBegin as usize] = 0;
        seen.moments[Moment::WalkEnd as usize] = 300;
        seen.moments[Moment::TablesReady as usize] = 1000;
        seen.moments[Moment::Written as usize] = 1200;
        let row = fault(&seen).expect("a known class");
        assert_eq!(
            (row.exit_ns, row.pfn_ns, row.tables_ns, row.entry_ns),
            (None, None, None, None)
        );
        assert_eq!(
            (row.walk_ns, row.pfn_tables_ns, row.write_ns),
            (Some(300), Some(700), Some(200))
        );
        assert_eq!(row.total_ns, 1200);
        assert_eq!((row.gpa, row.gpte1, row.spte), (None, None, None));
    }
}
