//! A recording that keeps its last part only: the ring of segments on disk.
//!
//! The ring is made of sections. Each begins with a keyframe of every VM, so that replay can begin
//! with any of them. `attach` says where sections begin; the writer drops the oldest ones. What
//! bounds the ring is time, and bytes where they come first.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use events::{RoleLayout, Seq, VmId};
use trace::{Begin, Event, Kept, TraceError, TraceWriter};

use super::watch::{On, Watch};
use crate::recording::ns;

/// Sections of the ring, as bytes are counted: the limit holds four.
const SECTIONS: u64 = 4;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At least this much time, unless the bytes come first.
    pub time: Duration,
    /// At most so many bytes of segments; what is written last can come on top. Of an event, at most
    /// half of them come after it.
    pub bytes: u64,
    /// What ends the recording.
    pub on: Vec<On>,
    /// How long it still records after that.
    pub after: Duration,
}

impl Keep {
    /// What the metadata says before anything is dropped.
    pub fn kept(&self) -> Kept {
        Kept {
            keep_ns: ns(self.time),
            limit_bytes: self.bytes,
            after_ns: ns(self.after),
            ..Kept::default()
        }
    }
}

/// Where replay can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The number that the next record got when the first VMM was stopped.
    pub first: Seq,
    /// When.
    pub time_ns: u64,
    /// The number that the next record got when all keyframes were taken.
    pub until: Seq,
}

/// The ring, shared by who takes keyframes and who writes.
#[derive(Debug)]
pub struct Keeper {
    keep: Keep,
    /// Bytes written since the newest section began.
    section_bytes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The oldest is the one that the trace begins with.
    sections: VecDeque<Section>,
    watch: Watch,
    event: Option<Event>,
    /// Bytes written since the event was seen.
    after_bytes: u64,
    /// What comes yet would push out what was before the event.
    full: bool,
    /// The recording ends: nothing is dropped any more.
    ends: bool,
}

impl Keeper {
    /// An empty ring; `layout` is that of the recording's roles.
    pub fn new(keep: Keep, layout: RoleLayout) -> Self {
        let watch = Watch::new(&keep.on, layout);
        Self {
            keep,
            section_bytes: AtomicU64::new(0),
            state: Mutex::new(State {
                watch,
                ..State::default()
            }),
        }
    }

    /// Every VM has a keyframe of this section.
    pub fn begin(&self, section: Section) {
        self.section_bytes.store(0, Ordering::Relaxed);
        self.locked().sections.push_back(section);
    }

    /// The newest section takes its share of the bytes: the next one must begin.
    pub fn is_section_full(&self) -> bool {
        self.section_bytes.load(Ordering::Relaxed) >= self.keep.bytes / SECTIONS
    }

    /// Something else than a record ends the recording.
    pub fn happened(&self, event: Event) {
        self.locked().event.get_or_insert(event);
    }

    /// A storm of zaps waits for a look: which VMs run on.
    pub fn waits(&self) -> bool {
        let state = self.locked();
        state.event.is_none() && state.watch.waits_since().is_some()
    }

    /// At this moment these VMs ran, and no other of the recording.
    pub fn looked(&self, time_ns: u64, run: &BTreeSet<VmId>) {
        let mut state = self.locked();
        if state.event.is_none() {
            state.event = state.watch.looked(time_ns, run);
        }
    }

    /// What the recording waited for.
    pub fn event(&self) -> Option<Event> {
        self.locked().event.clone()
    }

    /// No byte is left for what comes after the event: half of all are for what was before it.
    pub fn is_full(&self) -> bool {
        self.locked().full
    }

    /// How long it still records after that.
    pub fn after(&self) -> Duration {
        self.keep.after
    }

    /// From now on nothing is dropped: the trace's beginning is known.
    pub fn end(&self) {
        self.locked().ends = true;
    }

    /// Looks through what was written, and drops what is too old or too much.
    pub fn written(
        &self,
        batch: &trace::Batch,
        bytes: u64,
        trace: &mut TraceWriter,
        now_ns: u64,
    ) -> Result<(), TraceError> {
        self.section_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut state = self.locked();
        if state.event.is_none() {
            state.event = state.watch.look(batch);
        }
        if state.ends {
            return Ok(());
        }
        let on_disk = trace.next_seq();
        // What came before the event is kept until the end, and until it is known whether it is one.
        let event = state.event.as_ref().map(|event| event.time_ns);
        let until = event.or(state.watch.waits_since()).unwrap_or(now_ns);
        let old = until.saturating_sub(ns(self.keep.time));
        if let Some(begin) = state.newest(|section| section.time_ns <= old, on_disk) {
            trace.drop_before(begin)?;
        }
        if state.event.is_some() {
            state.after_bytes = state.after_bytes.saturating_add(bytes);
        }
        self.make_room(&mut state, trace)
    }

    /// Drops what is too much: whole sections, or where not even one fits, the oldest segments. Of
    /// the event and the section before it nothing is dropped: the recording ends instead.
    fn make_room(&self, state: &mut State, trace: &mut TraceWriter) -> Result<(), TraceError> {
        let on_disk = trace.next_seq();
        while trace.bytes() > self.keep.bytes {
            if state.after_bytes > self.keep.bytes / 2 {
                state.full = true;
                break;
            }
            if let Some(begin) = state.next(on_disk) {
                trace.drop_before(begin)?;
                continue;
            }
            let event_ns = state.event.as_ref().map(|event| event.time_ns);
            let kept = trace.meta_file().kept();
            let begin = kept.and_then(|kept| kept.begin);
            let is_exact = begin.is_none_or(|begin| begin.keyframe);
            let may_drop = event_ns.is_none() || !is_exact;
            if !may_drop || !trace.drop_oldest(event_ns)? {
                state.full |= event_ns.is_some();
                break;
            }
        }
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Whoever panicked in here left a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins the ring with the newest section that fits and is on disk, if that is not what it
    /// begins with.
    fn newest(&mut self, fits: impl Fn(&Section) -> bool, on_disk: Seq) -> Option<Begin> {
        let fits = |section: &Section| fits(section) && section.until <= on_disk;
        let place = self.sections.iter().rposition(fits)?;
        self.cut(place)
    }

    /// Begins the ring with its second section, if that is on disk and is not the one that the event
    /// is in.
    fn next(&mut self, on_disk: Seq) -> Option<Begin> {
        self.sections.get(1).filter(|of| of.until <= on_disk)?;
        if let Some(event) = &self.event {
            let third = self.sections.get(2);
            third.filter(|of| of.time_ns <= event.time_ns)?;
        }
        self.cut(1)
    }

    fn cut(&mut self, place: usize) -> Option<Begin> {
        if place == 0 {
            return None;
        }
        self.sections.drain(..place);
        let first = self.sections.front()?;
        Some(Begin {
            seq: first.first.0,
            time_ns: first.time_ns,
            keyframe: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use events::{TimeNs, VmId};
    use trace::{Batch, MarkRow, Meta, SCHEMA_VERSION};

    use super::*;

    fn state(sections: &[(u64, u64)]) -> State {
        let sections = sections.iter().map(|&(first, time_ns)| Section {
            first: Seq(first),
            time_ns,
            until: Seq(first + 10),
        });
        State {
            sections: sections.collect(),
            ..State::default()
        }
    }

    /// A ring that grows by stretches of a second, and by sections of two of them.
    struct Ring {
        keeper: Keeper,
        trace: TraceWriter,
        next: u64,
        _folder: tempfile::TempDir,
    }

    const SECOND: u64 = 1_000_000_000;
    const ROWS: u64 = 100;

    impl Ring {
        /// `stretches` of them fit.
        fn new(stretches: u64) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let meta = Meta {
                schema: SCHEMA_VERSION,
                ..Meta::default()
            };
            let path = folder.path().join("r.trace");
            let mut trace = TraceWriter::create(&path, &meta).expect("a trace");
            trace.write(&batch(0)).expect("written");
            let keep = Keep {
                time: Duration::from_secs(1000),
                bytes: stretches * trace.bytes(),
                on: Vec::new(),
                after: Duration::from_secs(1000),
            };
            Self {
                keeper: Keeper::new(keep, RoleLayout::default()),
                trace,
                next: 1,
                _folder: folder,
            }
        }

        fn stretch(&mut self) {
            let number = self.next;
            self.next += 1;
            if number % 2 == 1 {
                self.keeper.begin(Section {
                    first: Seq(number * ROWS),
                    time_ns: number * SECOND,
                    until: Seq(number * ROWS + 1),
                });
            }
            let (batch, before) = (batch(number), self.trace.bytes());
            self.trace.write(&batch).expect("written");
            let bytes = self.trace.bytes() - before;
            let now = (number + 1) * SECOND;
            let written = self.keeper.written(&batch, bytes, &mut self.trace, now);
            written.expect("kept");
        }

        fn begin(&self) -> Begin {
            let kept = self.trace.meta_file().kept().expect("a part is kept");
            kept.begin.expect("something was dropped")
        }
    }

    fn batch(number: u64) -> Batch {
        let mark = |row: u64| MarkRow {
            seq: Seq(number * ROWS + row),
            time_ns: TimeNs(number * SECOND + row),
            vm: VmId(0),
            vcpu: None,
            name: String::new(),
            guest_tsc: None,
            keyframe: None,
            pages: None,
            stopped_ns: None,
        };
        Batch {
            marks: (0..ROWS).map(mark).collect(),
            ..Batch::default()
        }
    }

    #[test]
    fn the_event_and_the_section_before_it_are_kept_whatever_comes_after() {
        // Sections of a quarter, as `attach` makes them, and sections of which not two fit.
        for (stretches, at_least) in [(8, 4), (3, 0)] {
            let mut ring = Ring::new(stretches);
            (0..40).for_each(|_| ring.stretch());
            assert!(ring.begin().time_ns > 30 * SECOND);
            let event = Event {
                time_ns: ring.next * SECOND,
                ..Event::default()
            };
            ring.keeper.happened(event.clone());
            let mut after = 0;
            while !ring.keeper.is_full() {
                ring.stretch();
                after += 1;
                assert!(after < 100, "it ends");
            }
            assert!(after >= at_least, "{after} of {stretches}");
            let begin = ring.begin();
            let before = event.time_ns - begin.time_ns;
            assert!(begin.keyframe && before >= 2 * SECOND, "{before} ns");
            // What is written until the recording has ended pushes nothing out either.
            (0..3).for_each(|_| ring.stretch());
            assert_eq!(ring.begin(), begin);
        }
    }

    #[test]
    fn a_stretch_above_the_limit_stays_until_the_next() {
        let mut ring = Ring::new(0);
        for _ in 0..5 {
            ring.stretch();
            assert!(ring.trace.rows() >= ROWS, "the newest is there");
            assert!(ring.trace.rows() <= 2 * ROWS, "and not much else");
        }
    }

    fn first(begin: Option<Begin>) -> Option<u64> {
        begin.map(|begin| begin.seq)
    }

    #[test]
    fn the_ring_begins_with_the_newest_section_that_is_old_enough() {
        let mut ring = state(&[(0, 0), (100, 30), (200, 60), (300, 90)]);
        assert_eq!(first(ring.newest(|of| of.time_ns <= 20, Seq(400))), None);
        let begin = ring.newest(|of| of.time_ns <= 70, Seq(400));
        assert_eq!(first(begin), Some(200));
        assert_eq!(ring.sections.len(), 2);
        assert_eq!(first(ring.newest(|of| of.time_ns <= 70, Seq(400))), None);
    }

    #[test]
    fn a_section_whose_keyframe_is_not_on_disk_yet_is_not_the_first() {
        let mut ring = state(&[(0, 0), (100, 30)]);
        assert_eq!(first(ring.newest(|_| true, Seq(109))), None);
        assert_eq!(first(ring.next(Seq(109))), None);
        assert_eq!(first(ring.next(Seq(110))), Some(100));
        assert_eq!(first(ring.next(Seq(110))), None);
    }
}
