//! Valid Parquet whose values are wrong: addresses, levels, numbers backwards.

use std::{fs, path::Path};

use events::Seq;
use fastrand::Rng;
use polars::prelude::*;
use trace::{Batch, Row, Trace, TraceWriter};

use super::{EVIL, all_rows};
use crate::each_kind;

/// Writes the trace again with damaged rows, in one stretch or several.
pub fn damage(path: &Path, random: &mut Rng) {
    let trace = Trace::open(path).unwrap();
    let mut meta = trace.meta().clone();
    let mut rows = all_rows(&trace).unwrap();
    fs::remove_dir_all(path).unwrap();
    let times = random.usize(1..6);
    for _ in 0..times {
        each_kind!(&mut rows, kind => if random.u8(..3) == 0 {
            *kind = damaged(std::mem::take(kind), random);
        });
    }
    if random.u8(..3) == 0 {
        let bits = random.u8(1..64);
        let from = random.u64(..1 << bits);
        each_kind!(&mut rows, kind => renumber(kind, from, random));
    }
    let mut writer = TraceWriter::create(path, &meta).unwrap();
    for batch in stretches(rows, random) {
        writer.write(&batch).unwrap();
    }
    if let Some(end) = &mut meta.end {
        end.segments = writer.segments();
        end.rows = writer.rows();
    }
    writer.meta_file().write(&meta).unwrap();
}

/// Each row into one of a few stretches, most into the one where they belong.
fn stretches(mut rows: Batch, random: &mut Rng) -> Vec<Batch> {
    let number = random.usize(1..6);
    let mut batches = vec![Batch::default(); number];
    macro_rules! split {
        ($($kind:ident)+) => {
            $({
                let all = rows.$kind.len().max(1);
                for (at, row) in std::mem::take(&mut rows.$kind).into_iter().enumerate() {
                    let own = at * number / all;
                    let stretch = if random.u8(..100) == 0 { random.usize(..number) } else { own };
                    batches[stretch].$kind.push(row);
                }
            })+
        };
    }
    split!(faults entries pages roots marks keyframes writes host losses acts);
    batches
}

/// Numbers that go backwards, repeat or have holes.
fn renumber<R: Row + SetSeq>(rows: &mut [R], from: u64, random: &mut Rng) {
    let last = rows.len() as u64;
    let how = random.u8(..4);
    for (at, row) in (0_u64..).zip(rows) {
        let seq = match how {
            0 => from.wrapping_add(last - at),
            1 => from,
            2 => from.wrapping_add(at.wrapping_mul(7)),
            _ => row.seq().0,
        };
        row.set_seq(Seq(seq));
    }
}

/// Whose number can be changed.
pub trait SetSeq {
    /// Changes it.
    fn set_seq(&mut self, seq: Seq);
}

macro_rules! set_seq {
    ($($row:ident)+) => {
        $(impl SetSeq for trace::$row {
            fn set_seq(&mut self, seq: Seq) {
                self.seq = seq;
            }
        })+
    };
}
set_seq!(ActRow FaultRow EntryRow PageRow RootRow MarkRow KeyframeRow WriteRow HostRow LossRow);

/// Rows of one kind, some or all of them changed.
fn damaged<R: Row + Clone>(mut rows: Vec<R>, random: &mut Rng) -> Vec<R> {
    if rows.is_empty() {
        return rows;
    }
    match random.u8(..10) {
        0 => random.shuffle(&mut rows),
        1 => rows.retain(|_| random.bool()),
        2 => {
            let at = random.usize(..rows.len());
            let again = rows[at..rows.len().min(at + 200)].to_vec();
            let times = random.usize(1..20);
            rows.extend(std::iter::repeat_n(again, times).flatten());
        }
        _ => return column(&rows, random).unwrap_or(rows),
    }
    rows
}

/// One column changes; `None` if its values cannot be.
fn column<R: Row>(rows: &[R], random: &mut Rng) -> Option<Vec<R>> {
    let mut frame = R::to_frame(rows).ok()?;
    let info = &R::COLUMNS[random.usize(..R::COLUMNS.len())];
    let own = frame.column(info.name).ok()?.clone();
    let share = [1, 2, 10, rows.len()][random.usize(..4)];
    let how = random.u8(..8);
    macro_rules! numbers {
        ($accessor:ident, $native:ident) => {{
            let mut cells: Vec<Option<$native>> = own.$accessor().ok()?.iter().collect();
            let copies = cells.clone();
            let constant = random.$native(..);
            for cell in &mut cells {
                if random.usize(..share) > 0 {
                    continue;
                }
                let before = cell.unwrap_or_default();
                *cell = match how {
                    0 if info.nullable => None,
                    0 | 1 => Some(0),
                    2 => Some($native::MAX),
                    3 => Some(random.$native(..)),
                    4 => Some(before ^ 1 << random.u32(..$native::BITS)),
                    5 => copies[random.usize(..copies.len())].or(Some(before)),
                    6 => Some(before.wrapping_add(1)),
                    _ => Some(constant),
                };
            }
            Column::new(info.name.into(), cells)
        }};
    }
    let new = match info.dtype {
        "u8" => numbers!(u8, u8),
        "u16" => numbers!(u16, u16),
        "u32" => numbers!(u32, u32),
        "u64" => numbers!(u64, u64),
        _ => {
            let cells: Vec<_> = own.str().ok()?.iter().flatten().collect();
            let other = |random: &mut Rng| cells[random.usize(..cells.len())].to_owned();
            let changed = cells.iter().map(|cell| match (random.usize(..share), how) {
                (0, 0) => EVIL.to_owned(),
                (0, _) => other(random),
                _ => (*cell).to_owned(),
            });
            let changed: Vec<String> = changed.collect();
            Column::new(info.name.into(), changed)
        }
    };
    frame.with_column(new).ok()?;
    // A name of no kind is refused, as the writer refuses it.
    R::from_frame(&frame, Path::new("damaged")).ok()
}
