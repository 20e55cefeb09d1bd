//! The recordings of the tests as inputs to begin with: records as the probes sent them.

use bytemuck::{Pod, Zeroable as _};
use events::{
    ActDone, COLLECTOR_MARK_BASE, Entry, Fault, Header, Host, KeyframeEntry, Mark, Moment, NO_VCPU,
    NOT_SEEN, Page, RecordKind, Root, Seq, TimeNs, VcpuId, VmId, Write,
};
use trace::{
    ActRow, EntryRow, FaultRow, HostRow, KeyframePage, MarkRow, PageRow, Record, RootRow, WriteRow,
};

/// The bytes of the ring for some records; those of losses do not come through it.
pub fn ring<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        match record {
            Record::Fault(row) => push(&mut bytes, &fault(row)),
            Record::Entry(row) => push(&mut bytes, &entry(row)),
            Record::Page(row) => push(&mut bytes, &page(row)),
            Record::Root(row) => push(&mut bytes, &root(row)),
            Record::Mark(row) => push(&mut bytes, &mark(row)),
            Record::Keyframe(copy) => push_bytes(&mut bytes, &keyframe(copy)),
            Record::Write(row) => push(&mut bytes, &write(row)),
            Record::Host(row) => push(&mut bytes, &host(row)),
            Record::Act(row) => push(&mut bytes, &act(row)),
            Record::Loss(_) => {}
        }
    }
    bytes
}

fn push<R: Pod>(bytes: &mut Vec<u8>, record: &R) {
    push_bytes(bytes, bytemuck::bytes_of(record));
}

fn push_bytes(bytes: &mut Vec<u8>, record: &[u8]) {
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(record);
}

fn header(kind: RecordKind, seq: Seq, time: TimeNs, vm: VmId, vcpu: Option<VcpuId>) -> Header {
    Header {
        seq,
        time,
        kind: kind as u16,
        vm,
        vcpu: vcpu.unwrap_or(NO_VCPU),
        reserved: 0,
    }
}

fn fault(row: &FaultRow) -> Fault {
    let mut fault = Fault::zeroed();
    fault.header = header(
        RecordKind::Fault,
        row.seq,
        row.time_ns,
        row.vm,
        Some(row.vcpu),
    );
    (fault.gva, fault.cr3, fault.root) = (row.gva, row.cr3, row.root);
    (fault.error_code, fault.class) = (row.error_code, row.class as u8);
    let gptes = [row.gpte1, row.gpte2, row.gpte3, row.gpte4, row.gpte5];
    for (level, gpte) in gptes.into_iter().enumerate() {
        if let Some(gpte) = gpte {
            fault.gpte_levels |= 1 << level;
            fault.gptes[level] = gpte;
        }
    }
    if let Some(rip) = row.rip {
        fault.known |= Fault::RIP;
        fault.rip = rip;
    }
    if let Some(gpa) = row.gpa {
        fault.known |= Fault::MAPPING;
        fault.gfn = gpa.gfn();
    }
    if let (Some(slot), Some(hva), Some(pfn)) = (row.slot, row.hva, row.pfn) {
        fault.known |= Fault::SLOT;
        (fault.slot, fault.hva, fault.pfn) = (slot.0, hva, pfn);
    }
    if let (Some(sptep), Some(spte), Some(level)) = (row.sptep, row.spte, row.level) {
        fault.known |= Fault::LEAF;
        (fault.sptep, fault.spte, fault.level) = (sptep, spte, level.0);
    }
    if let Some(switches) = row.switches {
        fault.known |= Fault::SWITCHES;
        fault.switches = switches;
    }
    (fault.created, fault.reused, fault.zapped) = (row.created, row.reused, row.zapped);
    fault.errno = row.errno.unwrap_or_default();
    fault.moments = [NOT_SEEN; events::MOMENTS];
    let walk = row.walk_ns.unwrap_or_default();
    let tables = walk + row.pfn_tables_ns.unwrap_or_default();
    fault.moments[Moment::WalkBegin as usize] = 0;
    fault.moments[Moment::WalkEnd as usize] = walk;
    fault.moments[Moment::TablesReady as usize] = tables;
    fault.moments[Moment::Written as usize] = row.total_ns.max(tables);
    fault
}

fn entry(row: &EntryRow) -> Entry {
    let mut entry = Entry::zeroed();
    entry.header = header(RecordKind::Entry, row.seq, row.time_ns, row.vm, row.vcpu);
    (entry.sptep, entry.spte, entry.level) = (row.sptep, row.spte, row.level.0);
    entry.cause = row.cause as u8;
    if let Some(old) = row.old {
        entry.known |= Entry::OLD;
        entry.old = old;
    }
    if let Some(gfn) = row.gfn {
        entry.known |= Entry::GFN;
        entry.gfn = gfn;
    }
    entry
}

fn page(row: &PageRow) -> Page {
    let mut page = Page::zeroed();
    page.header = header(RecordKind::Page, row.seq, row.time_ns, row.vm, row.vcpu);
    (page.spt, page.gfn, page.role) = (row.spt, row.gfn, row.role);
    (page.event, page.unsync) = (row.event as u8, row.unsync);
    page
}

fn root(row: &RootRow) -> Root {
    let mut root = Root::zeroed();
    root.header = header(
        RecordKind::Root,
        row.seq,
        row.time_ns,
        row.vm,
        Some(row.vcpu),
    );
    (root.cr3, root.root, root.level) = (row.cr3, row.root, row.level.0);
    root
}

fn mark(row: &MarkRow) -> Mark {
    let mut mark = Mark::zeroed();
    mark.header = header(RecordKind::Mark, row.seq, row.time_ns, row.vm, row.vcpu);
    if let Some(keyframe) = row.keyframe {
        (mark.mark, mark.keyframe) = (COLLECTOR_MARK_BASE, keyframe);
        mark.value = row.pages.unwrap_or_default().into();
        mark.stopped_ns = row.stopped_ns.unwrap_or(NOT_SEEN);
    }
    mark
}

fn keyframe(copy: &KeyframePage) -> Vec<u8> {
    let mut page = events::KeyframePage::zeroed();
    page.header = header(
        RecordKind::KeyframePage,
        copy.seq,
        copy.time_ns,
        copy.vm,
        None,
    );
    (page.spt, page.gfn, page.role) = (copy.spt, copy.gfn, copy.role);
    (page.keyframe, page.root_count) = (copy.keyframe, copy.root_count);
    page.unsync = copy.unsync.into();
    page.has_frames = u8::from(!copy.gfns.is_empty());
    page.count = u16::try_from(copy.entries.len()).unwrap_or(u16::MAX);
    let mut bytes = bytemuck::bytes_of(&page).to_vec();
    for &(index, spte) in &copy.entries {
        let gfn = copy.gfns.iter().find(|(of, _)| *of == index);
        let translation = gfn.map_or(0, |(_, gfn)| gfn.gpa(0).0);
        let entry = KeyframeEntry::new(index, spte, translation);
        bytes.extend_from_slice(bytemuck::bytes_of(&entry));
    }
    bytes
}

fn write(row: &WriteRow) -> Write {
    let mut write = Write::zeroed();
    write.header = header(
        RecordKind::Write,
        row.seq,
        row.time_ns,
        row.vm,
        Some(row.vcpu),
    );
    (write.gpa, write.value, write.bytes) = (row.gpa, row.value, row.bytes);
    write
}

fn host(row: &HostRow) -> Host {
    let mut host = Host::zeroed();
    host.header = header(RecordKind::Host, row.seq, row.time_ns, row.vm, row.vcpu);
    (host.gfn, host.pages, host.event) = (row.gfn, row.pages, row.event as u8);
    host.slot = row.slot.map_or(Host::NO_SLOT, |slot| slot.0);
    host
}

fn act(row: &ActRow) -> ActDone {
    let mut done = ActDone::zeroed();
    done.header = header(RecordKind::ActDone, row.seq, row.time_ns, row.vm, row.vcpu);
    (done.total, done.act) = (row.total_ns, row.act as u8);
    (done.synced, done.zapped) = (row.synced, row.zapped);
    done
}
