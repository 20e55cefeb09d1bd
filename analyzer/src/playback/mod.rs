//! The tables of a VM after each record, in few bytes: for a page that shows any moment.
//!
//! A stream of steps. Each has its record and what that changed in the tables; the first begins
//! with no table. When the stream has its full length, what comes later is sampled: a step is then
//! a fault with the tables on the way to its leaf, and nothing of the others.
//!
//! ```text
//! stream   numbers of few bytes, as differences from the number before
//! step     a record as numbers
//! state    what a record changed, and the tables on the way to a fault's leaf
//! ```

mod state;
mod step;
mod stream;

use std::collections::BTreeMap;

use events::{Act, Cause, Class, HostEvent, PageEvent, Seq, VmId};
use serde::Serialize;
use trace::{Mode, Record, Sees};

use crate::{
    replay::{VmReplay, is_unchanged},
    study::{Follow, StudyError, Subject},
};

pub use stream::Word;
use stream::{Numbers, Stream};

/// Most samples of what is past the full length. They are spread over the records of the whole
/// trace, so that one VM of several has fewer.
const SAMPLES: u64 = 64;

/// The steps of one VM.
#[derive(Clone, Debug)]
pub struct Playback {
    vm: VmId,
    mode: Mode,
    stream: Stream,
    numbers: Numbers,
    /// Longest stream of steps that are not samples, bytes.
    most: usize,
    /// Records of the whole trace.
    records: u64,
    /// Records of this VM that were seen.
    seen: u64,
    /// Steps in the stream.
    steps: u64,
    /// Those that are not samples.
    exact: u64,
    /// The last record up to which every one is a step; `None` while all are.
    exact_until: Option<Seq>,
    last: Seq,
    /// Records seen when the next sample is due, and between two.
    next: u64,
    between: u64,
    samples: u64,
    /// The first change of each cause, and the first shadow page.
    firsts: BTreeMap<Cause, Seq>,
    first_page: Option<Seq>,
}

/// What a reader of the stream must know.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    /// Its VM.
    pub vm: u16,
    /// Steps in the stream.
    pub steps: u64,
    /// Those at the beginning that have every change; the others are samples.
    pub exact: u64,
    /// The record of the last of these; null where all are.
    pub exact_until: Option<Seq>,
    /// Records of the trace.
    pub records: u64,
    /// The first time of the trace, ns.
    pub start_ns: u64,
    /// Values of 64 bits that the stream names by their number.
    pub words: Vec<Word>,
    /// What the address that is walked is called, and the tables that are shadowed.
    pub address: &'static str,
    /// See `address`.
    pub guest_tables: &'static str,
    /// Names of phases, likewise.
    pub names: Vec<String>,
    /// Numbers and names of classes, causes, page events, host events and acts.
    pub classes: Vec<(u8, &'static str)>,
    /// See `classes`.
    pub causes: Vec<(u8, &'static str)>,
    /// See `classes`.
    pub events: Vec<(u8, &'static str)>,
    /// See `classes`.
    pub hosts: Vec<(u8, &'static str)>,
    /// See `classes`.
    pub acts: Vec<(u8, &'static str)>,
}

impl Follow for Playback {
    fn before(&mut self, record: &Record, tables: Option<&VmReplay>) {
        if let Record::Entry(row) = record
            && !is_unchanged(row, tables)
        {
            self.firsts.entry(row.cause).or_insert(row.seq);
        }
    }

    fn after(&mut self, record: &Record, tables: Option<&VmReplay>) {
        let Some(tables) = tables else { return };
        self.seen += 1;
        if let Record::Page(row) = record {
            self.first_page.get_or_insert(row.seq);
        }
        if self.exact_until.is_none() {
            self.exactly(record, tables);
        } else if self.seen >= self.next && self.samples < SAMPLES {
            self.sample(record, tables);
        }
    }

    fn finish(&mut self, _: Option<&VmReplay>, _: Sees) -> Result<(), StudyError> {
        Ok(())
    }
}

impl Playback {
    /// Nothing was read yet. `records` are those of the whole trace; the stream has `most` bytes,
    /// and what the samples take.
    pub fn new(subject: &Subject<'_>, records: u64, most: usize) -> Self {
        Self {
            vm: subject.vm,
            mode: subject.meta.map_or(Mode::Shadow, |meta| meta.mode),
            stream: Stream::default(),
            numbers: Numbers::new(subject.span_ns[0]),
            most,
            records,
            seen: 0,
            steps: 0,
            exact: 0,
            exact_until: None,
            last: Seq(0),
            next: 0,
            between: 0,
            samples: 0,
            firsts: BTreeMap::new(),
            first_page: None,
        }
    }

    /// A step with everything that the record changed, if there is room for it.
    fn exactly(&mut self, record: &Record, vm: &VmReplay) {
        let touched = vm.tables().touched();
        if touched.is_empty() && matches!(record, Record::Keyframe(_) | Record::Loss(_)) {
            return;
        }
        let mark = self.stream.len();
        let step = step::record(&mut self.stream, &mut self.numbers, record)
            .and_then(|()| state::changes(&mut self.stream, &mut self.numbers, vm, self.most));
        let is_full = self.stream.len() + self.numbers.len() > self.most;
        if step.is_none() || is_full {
            self.stream.truncate(mark);
            self.exact_until = Some(self.last);
            self.between = self.records.saturating_sub(self.seen) / SAMPLES + 1;
            self.next = self.seen.saturating_add(self.between);
            return;
        }
        self.last = record.seq();
        self.steps += 1;
        self.exact += 1;
    }

    /// A fault with the tables on the way to its leaf.
    fn sample(&mut self, record: &Record, vm: &VmReplay) {
        let Record::Fault(row) = record else { return };
        let mark = self.stream.len();
        self.numbers.forget();
        let step = step::record(&mut self.stream, &mut self.numbers, record)
            .and_then(|()| state::on_the_way(&mut self.stream, &mut self.numbers, vm, row));
        self.next = self.seen.saturating_add(self.between);
        match step {
            Some(()) => {
                self.samples += 1;
                self.steps += 1;
            }
            None => self.stream.truncate(mark),
        }
    }

    /// What to know before reading [`Playback::bytes`].
    pub fn head(&self) -> Head {
        Head {
            vm: self.vm.0,
            steps: self.steps,
            exact: self.exact,
            exact_until: self.exact_until,
            records: self.records,
            start_ns: self.numbers.start_ns(),
            words: self.numbers.words().to_vec(),
            address: match self.mode {
                Mode::Shadow => "GVA",
                Mode::NestedNpt | Mode::NestedEpt => "nGPA",
            },
            guest_tables: match self.mode {
                Mode::Shadow => "Guest tables",
                Mode::NestedNpt => "L1's NPT",
                Mode::NestedEpt => "L1's EPT",
            },
            names: self.numbers.names().to_vec(),
            classes: Class::ALL.map(|of| (of as u8, of.name())).to_vec(),
            causes: Cause::ALL.map(|of| (of as u8, of.name())).to_vec(),
            events: PageEvent::ALL.map(|of| (of as u8, of.name())).to_vec(),
            hosts: HostEvent::ALL.map(|of| (of as u8, of.name())).to_vec(),
            acts: Act::ALL.map(|of| (of as u8, of.name())).to_vec(),
        }
    }

    /// The stream.
    pub fn bytes(&self) -> &[u8] {
        self.stream.bytes()
    }

    /// The last record up to which every one is a step; `None` where all are.
    pub fn exact_until(&self) -> Option<Seq> {
        self.exact_until
    }

    /// Steps that have every change.
    pub fn exact(&self) -> u64 {
        self.exact
    }

    /// The first change of each cause.
    pub fn firsts(&self) -> &BTreeMap<Cause, Seq> {
        &self.firsts
    }

    /// The first event of a shadow page.
    pub fn first_page(&self) -> Option<Seq> {
        self.first_page
    }

    /// Samples of what comes later.
    pub fn samples(&self) -> u64 {
        self.samples
    }
}
