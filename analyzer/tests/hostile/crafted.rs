//! Traces that are small on disk and ask for much work: each multiplies two things that a real
//! trace has few of.

use events::{Cause, Class, Gpa, HostEvent, PageEvent, Seq, TimeNs, VcpuId, VmId};
use trace::{Batch, Memslot, VmMeta};

use super::{
    damage::Damaged,
    tape::{LINK, Tape},
};

/// How much of each there is.
pub type Size = u64;
/// Makes a trace.
pub type Craft = fn(Size) -> Damaged;

/// Every trace with its name.
pub const ALL: [(&str, Craft); 21] = [
    ("VMs that no record names", vms_without_records),
    ("a VM for each record", a_vm_for_each_record),
    ("tables that share all tables below", shared_tables),
    ("a table that links to itself", a_table_in_itself),
    ("many roots of the same tables", many_roots),
    ("a vCPU for each record", many_vcpus),
    ("a phase for each fault", many_phases),
    ("a process for each fault", many_processes),
    ("a frame of very many leaves", a_frame_of_many_leaves),
    ("a table of very many parents", a_table_of_many_parents),
    ("a guest table of very many shadows", many_shadows),
    ("ranges that are read again and again", many_rereads),
    ("ranges that are discarded again and again", many_unmaps),
    ("keyframes that are never whole", keyframes_not_whole),
    ("keyframes of no pages", empty_keyframes),
    ("numbers that go backwards", backwards),
    (
        "gaps that are closed late, from the first on",
        gaps_closed_late,
    ),
    ("faults in one of very many memslots", many_memslots),
    ("a page for each leaf", a_page_for_each_leaf),
    ("a page made and zapped again and again", a_page_reborn),
    ("faults that last for centuries", faults_of_any_length),
];

fn vms_without_records(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    tape.meta.vms = (0..=u16::MAX)
        .map(|vm| VmMeta {
            vm,
            ..VmMeta::default()
        })
        .collect();
    tape.fault(Class::Guest, 0, 0x1000, None);
    tape.write()
}

fn a_vm_for_each_record(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for vm in 0..=u16::MAX {
        tape.vm = VmId(vm);
        tape.fault(Class::Shadow, 0x1000, 0x1000, Some((0x2008, 7)));
    }
    tape.write()
}

/// 512 ways at each of four levels: 2^36 leaves.
fn shared_tables(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let table = |level: u64| 0x10_0000 + (level << 12);
    for level in (1..=4_u8).rev() {
        tape.born(table(level.into()), level, level.into());
    }
    tape.root(table(4), 0x4000, 4);
    for level in (2..=4_u8).rev() {
        tape.links(table(level.into()), level, table(u64::from(level) - 1));
    }
    for index in 0..512 {
        tape.leaf(table(1) + 8 * index, 0x400);
    }
    for page in 0..100 {
        let gva = page << 21;
        tape.fault(Class::Shadow, table(4), gva, Some((table(1), 0x400)));
    }
    tape.page(PageEvent::Zapped, table(1), 1, 1);
    tape.write()
}

fn a_table_in_itself(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for (spt, level) in [
        (0x10_0000, 5),
        (0x10_1000, 2),
        (0x10_2000, 0),
        (0x10_3000, 255),
    ] {
        tape.born(spt, level, 1);
        tape.root(spt, 0x4000, level);
        tape.links(spt, level, spt);
        tape.fault(Class::Shadow, spt, 0x8000_0000, Some((spt, 0x400)));
        tape.links(spt, level, spt);
    }
    tape.write()
}

fn many_roots(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let table = |level: u64| 0x10_0000 + (level << 12);
    for level in (1..=3_u8).rev() {
        tape.born(table(level.into()), level, level.into());
    }
    for level in [3, 2] {
        tape.links(table(level), level as u8, table(level - 1));
    }
    for index in 0..512 {
        tape.leaf(table(1) + 8 * index, 0x400);
    }
    for number in 0..size {
        let root = 0x1000_0000 + (number << 12);
        tape.born(root, 4, number);
        tape.root(root, number << 12, 4);
        tape.entry(Cause::Link, root, 4, table(3) | LINK, None);
        tape.fault(Class::Shadow, root, 0x1000, Some((table(1) + 8, 0x400)));
    }
    tape.write()
}

fn many_vcpus(_: Size) -> Damaged {
    let mut tape = Tape::new(false);
    tape.born(0x1000, 4, 1);
    for vcpu in 0..=u16::MAX {
        tape.vcpu = VcpuId(vcpu);
        tape.root(0x1000, 0x4000, 4);
        tape.fault(Class::Retried, 0x1000, 0x1000, None);
    }
    tape.write()
}

fn many_phases(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for number in 0..size * 4 {
        tape.mark(&format!("phase {number}"));
        let class = Class::ALL[number as usize % Class::ALL.len()];
        tape.fault(class, 0x1000, number << 12, None);
    }
    tape.write()
}

fn many_processes(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for number in 0..size * 4 {
        let root = number << 12;
        tape.fault(Class::Guest, root, number << 30, None);
    }
    tape.write()
}

/// KVM keeps a thousand; where each change has its record, replay counts on those of KVM.
fn a_frame_of_many_leaves(size: Size) -> Damaged {
    let mut tape = Tape::new(true);
    for table in 0..size / 256 {
        let spt = 0x1000_0000 + (table << 12);
        tape.born(spt, 1, 0x10_0000 + table);
        for index in 0..512 {
            tape.leaf(spt + 8 * index, 0x400);
        }
    }
    for _ in 0..size {
        // Makes KVM take write access from every leaf.
        tape.born(0x1000, 1, 0x400);
        tape.page(PageEvent::Sync, 0x1000, 1, 0x400);
        tape.store(0x40_0008);
    }
    for table in (0..size / 256).rev() {
        for index in 0..512 {
            let place = 0x1000_0000 + (table << 12) + 8 * (511 - index);
            tape.entry(Cause::HostUnmap, place, 1, 0, None);
        }
    }
    tape.write()
}

fn a_table_of_many_parents(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    tape.born(0x1000, 1, 1);
    for table in 0..size / 16 {
        let spt = 0x1000_0000 + (table << 12);
        tape.born(spt, 2, 0x10_0000 + table);
        tape.links(spt, 2, 0x1000);
    }
    for fault in 0..size {
        tape.fault(
            Class::Shadow,
            0x1000_0000,
            fault << 21,
            Some((0x1008, 0x400)),
        );
    }
    // From the first on.
    for table in 0..size / 16 {
        let spt = 0x1000_0000 + (table << 12);
        for index in 0..512 {
            tape.entry(Cause::GuestWrite, spt + 8 * index, 2, 0, None);
        }
    }
    tape.write()
}

fn many_shadows(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for page in 0..size {
        tape.born(0x1000_0000 + (page << 12), 1, 0x400);
    }
    for page in 0..size {
        tape.store(0x40_0000);
        let gva = 0x40_0000;
        tape.fault(Class::WriteProtected, 0x1000_0000 + (page << 12), gva, None);
        tape.page(PageEvent::Unsync, 0x1000_0000 + (page << 12), 1, 0x400);
    }
    for page in 0..size {
        tape.page(PageEvent::Zapped, 0x1000_0000 + (page << 12), 1, 0x400);
    }
    tape.write()
}

fn leaves(tape: &mut Tape, number: u64) {
    for table in 0..number / 512 {
        let spt = 0x1000_0000 + (table << 12);
        tape.born(spt, 1, 0x10_0000 + table);
        for index in 0..512 {
            tape.leaf(spt + 8 * index, 0x1000 + table * 512 + index);
        }
    }
}

fn many_rereads(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    leaves(&mut tape, size * 2);
    for number in 0..size {
        tape.host(HostEvent::Reread, number % 16, u64::MAX);
    }
    for number in 0..size {
        tape.host(HostEvent::Reread, number % 16, 1 << 20);
        tape.host(HostEvent::Settled, 0, 0);
    }
    tape.write()
}

fn many_unmaps(size: Size) -> Damaged {
    let mut tape = Tape::new(true);
    leaves(&mut tape, size * 2);
    let events = [
        HostEvent::Unmap,
        HostEvent::DirtyStart,
        HostEvent::ZapRange,
        HostEvent::FlushSlot,
    ];
    for number in 0..size * 2 {
        let event = events[number as usize % events.len()];
        tape.host(
            event,
            number % 16,
            [u64::MAX, 1 << 30][number as usize / 4 % 2],
        );
    }
    tape.write()
}

fn keyframes_not_whole(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    leaves(&mut tape, size * 2);
    for number in 0..size as u32 {
        tape.keyframe(number, 0x1000_0000, 2);
    }
    tape.write()
}

fn empty_keyframes(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    leaves(&mut tape, size * 2);
    for number in 0..size as u32 {
        tape.keyframe(number, 0x1000_0000, 1);
        tape.leaf(0x1000_0000, 0x1000);
    }
    tape.write()
}

/// Nothing may be made for each part of such a time.
fn faults_of_any_length(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for number in 0..size {
        tape.fault(Class::Guest, 0x1000, number << 12, None);
        let batch = tape.batches.last_mut().unwrap();
        batch.faults.last_mut().unwrap().total_ns = u64::MAX - number;
    }
    tape.write()
}

/// Each stretch has lower numbers than the one before, with a hole after each.
fn backwards(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let rows = 500;
    let stretches = size * 8 / rows;
    tape.batches.clear();
    for stretch in (0..stretches).rev() {
        tape.batches.push(Batch::default());
        for row in 0..rows {
            tape.seq = 0;
            tape.fault(Class::Guest, 0x1000, 0x1000, None);
            let batch = tape.batches.last_mut().unwrap();
            batch.faults.last_mut().unwrap().seq = Seq(2 * (stretch * rows + row));
        }
    }
    tape.seq = size * 16;
    tape.write()
}

/// The odd numbers come after all even ones: as many gaps as a study keeps.
fn gaps_closed_late(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let gaps = size * 32;
    for late in [0, 1] {
        tape.batches.push(Batch::default());
        for number in 0..gaps {
            tape.seq = 2 * number + late;
            let (seq, time_ns) = (Seq(tape.seq), TimeNs(1_000_000 + tape.seq * 1_000));
            tape.seq = 1;
            tape.fault(Class::Guest, 0x1000, 0x1000, None);
            let row = tape.batches.last_mut().unwrap().faults.last_mut().unwrap();
            (row.seq, row.time_ns) = (seq, time_ns);
        }
    }
    tape.seq = 2 * gaps;
    tape.write()
}

/// KVM emulates a store to a guest table before it needs the memslot: its fault names none.
fn many_memslots(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    let slots = (size * 2).min(u16::MAX.into());
    tape.meta.vms[0].memslots = (0..slots)
        .map(|slot| Memslot {
            slot: slot as u16,
            gpa: (slot / 2) << 12,
            bytes: 1 << 40,
            hva: 0x7000_0000_0000,
            from_ns: slot,
            until_ns: None,
        })
        .collect();
    for fault in 0..size * 32 {
        let gpa = (fault % slots) << 12;
        tape.fault(Class::WriteProtected, 0x1000, gpa, None);
        let row = tape.batches.last_mut().unwrap().faults.last_mut().unwrap();
        row.gpa = Some(Gpa(gpa));
    }
    tape.write()
}

/// KVM makes a table of 4 KiB for it.
fn a_page_for_each_leaf(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for page in 0..size * 64 {
        let spt = 0x1000_0000 + (page << 12);
        tape.born(spt, 1, 0x10_0000 + page);
        tape.leaf(spt + 8 * (page % 512), 0x1000 + page);
    }
    tape.write()
}

fn a_page_reborn(size: Size) -> Damaged {
    let mut tape = Tape::new(false);
    for number in 0..size * 2 {
        tape.born(0x1000, 4, number % 64);
        tape.root(0x1000, 0x4000, 4);
        tape.entry(Cause::Link, 0x1000, 4, 0x1000 | LINK, None);
        if number % 2 == 0 {
            tape.page(PageEvent::Zapped, 0x1000, 4, number % 64);
        }
    }
    tape.write()
}
