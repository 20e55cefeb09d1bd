//! A record as numbers.

use events::{Gpte, Gva, VcpuId};
use trace::{FaultRow, Record};

use super::stream::{Numbers, Of, Stream};

/// Bits of an entry that are its frame.
pub(super) const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// What kind of record a step is; the first byte.
const FAULT: u8 = 0;
const ENTRY: u8 = 1;
const PAGE: u8 = 2;
const ROOT: u8 = 3;
const MARK: u8 = 4;
const KEYFRAME: u8 = 5;
const WRITE: u8 = 6;
const HOST: u8 = 7;
const ACT: u8 = 8;
const NOTHING: u8 = 9;

/// Writes the record; `None` where it has an address that no machine has.
pub(super) fn record(to: &mut Stream, numbers: &mut Numbers, record: &Record) -> Option<()> {
    let kind = match record {
        Record::Fault(_) => FAULT,
        Record::Entry(_) => ENTRY,
        Record::Page(_) => PAGE,
        Record::Root(_) => ROOT,
        Record::Mark(row) if row.ends_keyframe().is_some() => KEYFRAME,
        Record::Mark(_) => MARK,
        Record::Write(_) => WRITE,
        Record::Host(_) => HOST,
        Record::Act(_) => ACT,
        Record::Keyframe(_) | Record::Loss(_) => NOTHING,
    };
    to.byte(kind);
    numbers.put(to, Of::Seq, record.seq().0)?;
    numbers.put(to, Of::Time, record.time().0)?;
    match record {
        Record::Fault(row) => fault(to, numbers, row)?,
        Record::Entry(row) => {
            vcpu(to, row.vcpu);
            to.byte(row.cause as u8);
            numbers.put(to, Of::Place, row.sptep.0 >> 3)?;
        }
        Record::Page(row) => {
            vcpu(to, row.vcpu);
            to.byte(row.event as u8);
            numbers.put(to, Of::Place, row.spt.0 >> 3)?;
        }
        Record::Root(row) => {
            vcpu(to, Some(row.vcpu));
            numbers.word(to, row.cr3.0);
            numbers.word(to, row.root.0);
        }
        Record::Mark(row) => match row.ends_keyframe() {
            Some(keyframe) => to.number(keyframe.number.into()),
            None => numbers.name(to, &row.name),
        },
        Record::Write(row) => {
            vcpu(to, Some(row.vcpu));
            numbers.put(to, Of::Gfn, row.gpa.gfn().0)?;
            to.number(row.gpa.0 & 0xfff);
            to.number(row.bytes.into());
            entry(to, numbers, Of::Gpte(6), row.value)?;
        }
        Record::Host(row) => {
            to.byte(row.event as u8);
            numbers.put(to, Of::Gfn, row.gfn.0)?;
            to.number(row.pages);
        }
        Record::Act(row) => {
            vcpu(to, row.vcpu);
            to.byte(row.act as u8);
            to.number(row.total_ns);
            to.number(row.synced.into());
            to.number(row.zapped.into());
        }
        Record::Keyframe(_) | Record::Loss(_) => {}
    }
    Some(())
}

fn vcpu(to: &mut Stream, vcpu: Option<VcpuId>) {
    to.number(vcpu.map_or(0, |vcpu| u64::from(vcpu.0) + 1));
}

fn fault(to: &mut Stream, numbers: &mut Numbers, row: &FaultRow) -> Option<()> {
    vcpu(to, Some(row.vcpu));
    to.byte(row.class as u8);
    gva(to, numbers, row.gva)?;
    numbers.word(to, row.error_code.0.into());
    numbers.word(to, row.cr3.0);
    numbers.word(to, row.root.0);
    to.number(row.total_ns);
    let gptes = [row.gpte1, row.gpte2, row.gpte3, row.gpte4, row.gpte5];
    let present = (0_u8..).zip(gptes);
    let present = present.map(|(bit, gpte)| u8::from(gpte.is_some()) << bit);
    let known = present.fold(0, |all, one| all | one);
    let gfn = u8::from(row.gpa.is_some()) << 5;
    let place = u8::from(row.sptep.is_some()) << 6;
    to.byte(known | gfn | place);
    for (level, gpte) in (1..).zip(gptes) {
        if let Some(Gpte(gpte)) = gpte {
            entry(to, numbers, Of::Gpte(level), gpte)?;
        }
    }
    if let Some(gpa) = row.gpa {
        numbers.put(to, Of::Gfn, gpa.gfn().0)?;
    }
    if let Some(place) = row.sptep {
        numbers.put(to, Of::Place, place.0 >> 3)?;
    }
    Some(())
}

/// In two halves: a browser's numbers are exact up to 2^53.
fn gva(to: &mut Stream, numbers: &mut Numbers, gva: Gva) -> Option<()> {
    numbers.put(to, Of::GvaHigh, gva.0 >> 32)?;
    numbers.put(to, Of::GvaLow, gva.0 & 0xffff_ffff)
}

/// An entry of a table: its frame, and the rest, of which there are few.
pub(super) fn entry(to: &mut Stream, numbers: &mut Numbers, of: Of, entry: u64) -> Option<()> {
    numbers.word(to, entry & !FRAME);
    numbers.put(to, of, (entry & FRAME) >> 12)
}
