//! Packets to a file.

use std::io::Write as _;

use prost::Message as _;
use trace::Meta;

use super::{
    names::{Arg, Category, interned},
    proto::{
        COUNTER, Clock, ClockSnapshot, DebugAnnotation, INCREMENTAL_STATE_CLEARED, INSTANT,
        MONOTONIC, NEEDS_INCREMENTAL_STATE, REALTIME, SLICE_BEGIN, SLICE_END, Trace, TracePacket,
        TracePacketDefaults, TrackDescriptor, TrackEvent,
    },
};
use crate::export::{ExportError, Output};

/// Bits of a track's number, below those that distinguish recordings.
const TRACK_BITS: u32 = 42;

/// Writes packets.
pub(super) struct Packets {
    to: Output,
    buffer: Vec<u8>,
    /// Packets of one export belong together, and not with those of another in the same file.
    sequence: u32,
    /// Distinguishes tracks and flows from those of another recording in the same file.
    base: u64,
}

impl std::fmt::Debug for Packets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packets")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// An event, without its type and track.
#[derive(Clone, Debug)]
pub(super) struct Event {
    event: TrackEvent,
}

impl Event {
    /// Of an interned name.
    pub(super) fn named(iid: u64, category: Category) -> Self {
        Self::of(category, Some(iid), None)
    }

    /// Of a name of its own.
    pub(super) fn new(name: impl Into<String>, category: Category) -> Self {
        Self::of(category, None, Some(name.into()))
    }

    fn of(category: Category, name_iid: Option<u64>, name: Option<String>) -> Self {
        Self {
            event: TrackEvent {
                category_iids: vec![category.iid()],
                name_iid,
                name,
                ..TrackEvent::default()
            },
        }
    }

    fn add(mut self, arg: Arg, value: DebugAnnotation) -> Self {
        self.event.debug_annotations.push(DebugAnnotation {
            name_iid: Some(arg.iid()),
            ..value
        });
        self
    }

    /// With a number, if there is one.
    pub(super) fn number(self, arg: Arg, value: impl Into<Option<u64>>) -> Self {
        let uint_value = value.into();
        let value = DebugAnnotation {
            uint_value,
            ..DebugAnnotation::default()
        };
        match uint_value {
            Some(_) => self.add(arg, value),
            None => self,
        }
    }

    /// With an address or an entry, shown in hexadecimal, if there is one.
    pub(super) fn hex(self, arg: Arg, value: impl Into<Option<u64>>) -> Self {
        let pointer_value = value.into();
        let value = DebugAnnotation {
            pointer_value,
            ..DebugAnnotation::default()
        };
        match pointer_value {
            Some(_) => self.add(arg, value),
            None => self,
        }
    }

    /// With a text.
    pub(super) fn text(self, arg: Arg, value: impl Into<String>) -> Self {
        let value = DebugAnnotation {
            string_value: Some(value.into()),
            ..DebugAnnotation::default()
        };
        self.add(arg, value)
    }

    /// With a flag.
    pub(super) fn flag(self, arg: Arg, value: bool) -> Self {
        let value = DebugAnnotation {
            bool_value: Some(value),
            ..DebugAnnotation::default()
        };
        self.add(arg, value)
    }

    /// One end of these arrows.
    pub(super) fn flows(mut self, flows: impl IntoIterator<Item = u64>) -> Self {
        self.event.flow_ids.extend(flows);
        self
    }
}

impl Packets {
    /// Begins a file with the trace's clock and the names.
    pub(super) fn new(to: Output, meta: &Meta) -> Result<Self, ExportError> {
        // Fibonacci hashing: recordings that begin a moment apart differ.
        let hash = (meta.started_ns ^ meta.started_unix_s.rotate_left(32))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut packets = Self {
            to,
            buffer: Vec::new(),
            // Those of Perfetto's own service are small.
            sequence: u32::try_from(hash >> 32).unwrap_or(0) | 1 << 31,
            base: hash >> TRACK_BITS << TRACK_BITS,
        };
        let clock = |clock_id, timestamp| Clock {
            clock_id: Some(clock_id),
            timestamp: Some(timestamp),
        };
        let mut clocks = vec![clock(MONOTONIC, meta.started_ns)];
        if let Some(subsec) = meta.started_unix_subsec_ns {
            let seconds = meta.started_unix_s.saturating_mul(1_000_000_000);
            clocks.push(clock(REALTIME, seconds.saturating_add(subsec.into())));
        }
        packets.put(TracePacket {
            first_packet_on_sequence: Some(true),
            sequence_flags: Some(INCREMENTAL_STATE_CLEARED),
            trace_packet_defaults: Some(TracePacketDefaults {
                timestamp_clock_id: Some(MONOTONIC),
            }),
            interned_data: Some(interned()),
            ..TracePacket::default()
        })?;
        packets.put(TracePacket {
            clock_snapshot: Some(ClockSnapshot {
                clocks,
                primary_trace_clock: Some(MONOTONIC),
            }),
            ..TracePacket::default()
        })?;
        Ok(packets)
    }

    fn put(&mut self, packet: TracePacket) -> Result<(), ExportError> {
        let packet = TracePacket {
            trusted_packet_sequence_id: Some(self.sequence),
            ..packet
        };
        self.buffer.clear();
        let file = Trace {
            packet: vec![packet],
        };
        // The buffer is a vector, which grows; an error would be a full one.
        file.encode(&mut self.buffer)
            .map_err(std::io::Error::other)?;
        Ok(self.to.write_all(&self.buffer)?)
    }

    /// A number of this recording as one of the whole file.
    pub(super) fn unique(&self, number: u64) -> u64 {
        self.base ^ number
    }

    /// Describes a track, before its first event.
    pub(super) fn track(&mut self, uuid: u64, track: TrackDescriptor) -> Result<(), ExportError> {
        let uuid = Some(self.unique(uuid));
        let parent_uuid = track.parent_uuid.map(|parent| self.unique(parent));
        self.put(TracePacket {
            track_descriptor: Some(TrackDescriptor {
                uuid,
                parent_uuid,
                ..track
            }),
            ..TracePacket::default()
        })
    }

    fn event(
        &mut self,
        kind: u32,
        track: u64,
        at_ns: u64,
        event: TrackEvent,
    ) -> Result<(), ExportError> {
        let track_uuid = Some(self.unique(track));
        self.put(TracePacket {
            timestamp: Some(at_ns),
            sequence_flags: Some(NEEDS_INCREMENTAL_STATE),
            track_event: Some(TrackEvent {
                r#type: Some(kind),
                track_uuid,
                ..event
            }),
            ..TracePacket::default()
        })
    }

    /// A slice begins.
    pub(super) fn begin(&mut self, track: u64, at: u64, event: Event) -> Result<(), ExportError> {
        self.event(SLICE_BEGIN, track, at, event.event)
    }

    /// The innermost slice ends.
    pub(super) fn end(&mut self, track: u64, at_ns: u64) -> Result<(), ExportError> {
        self.event(SLICE_END, track, at_ns, TrackEvent::default())
    }

    /// A slice with nothing in it.
    pub(super) fn slice(
        &mut self,
        track: u64,
        [from, to]: [u64; 2],
        event: Event,
    ) -> Result<(), ExportError> {
        self.begin(track, from, event)?;
        self.end(track, to)
    }

    /// A moment.
    pub(super) fn instant(&mut self, track: u64, at: u64, event: Event) -> Result<(), ExportError> {
        self.event(INSTANT, track, at, event.event)
    }

    /// The value of a counter from now on.
    pub(super) fn counter(&mut self, track: u64, at: u64, value: u64) -> Result<(), ExportError> {
        let event = TrackEvent {
            counter_value: Some(i64::try_from(value).unwrap_or(i64::MAX)),
            ..TrackEvent::default()
        };
        self.event(COUNTER, track, at, event)
    }

    pub(super) fn flush(&mut self) -> Result<(), ExportError> {
        Ok(self.to.flush()?)
    }
}
