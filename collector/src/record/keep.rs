//! A recording that keeps its last part only: the ring of segments on disk.
//!
//! The ring is made of sections. Each begins with a keyframe of every VM, so that replay can begin
//! with any of them. `attach` says where sections begin; the writer drops the oldest ones. What
//! bounds the ring is time, and bytes where they come first.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use events::{RoleLayout, Seq};
use trace::{Begin, Event, Kept, TraceError, TraceWriter};

use super::watch::{On, Watch};

/// Sections of the ring, as bytes are counted: the limit holds four.
const SECTIONS: u64 = 4;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At least this much time, unless the bytes come first.
    pub time: Duration,
    /// At most so many bytes of segments; what is written last can come on top.
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

    /// What the recording waited for.
    pub fn event(&self) -> Option<Event> {
        self.locked().event.clone()
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
        // What came before the event is kept until the end.
        let until = state.event.as_ref().map_or(now_ns, |event| event.time_ns);
        let old = until.saturating_sub(ns(self.keep.time));
        if let Some(begin) = state.newest(|section| section.time_ns <= old, on_disk) {
            trace.drop_before(begin)?;
        }
        while trace.bytes() > self.keep.bytes {
            let before = trace.bytes();
            match state.next(on_disk) {
                Some(begin) => trace.drop_before(begin)?,
                None => trace.drop_oldest()?,
            }
            if trace.bytes() == before && state.sections.len() < 2 {
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

    /// Begins the ring with its second section, if that is on disk.
    fn next(&mut self, on_disk: Seq) -> Option<Begin> {
        self.sections.get(1).filter(|of| of.until <= on_disk)?;
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

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
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
