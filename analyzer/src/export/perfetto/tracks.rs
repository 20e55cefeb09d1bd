//! The tracks of a file: which there are, what they are called, and where they are.

use std::collections::BTreeMap;

use events::{VcpuId, VmId};
use trace::{Meta, VmMeta};

use super::{
    proto::{COUNT, CounterDescriptor, EXPLICIT, ProcessDescriptor, TrackDescriptor},
    writer::Packets,
};
use crate::{export::ExportError, text::plain};

/// Faults of a vCPU at the same time. One comes after the other; what is more is no recording.
pub(super) const LANES: usize = 64;

/// What a track shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Track {
    /// A VM: the process of its VMM.
    Vm(VmId),
    /// Phases of the guest.
    Phases(VmId),
    /// Faults of a vCPU. Those that overlap with others of the lane below are in the next lane.
    Faults(VmId, VcpuId, usize),
    /// Acts on a vCPU's thread, or on others.
    Acts(VmId, Option<VcpuId>, usize),
    /// What removed entries that faulted again.
    Removals(VmId),
    /// What the host did.
    Host(VmId),
    /// Ends of keyframes.
    Keyframes(VmId),
    /// Shadow pages.
    Pages(VmId),
    /// Entries in them.
    Entries(VmId),
    /// Missing numbers, of all VMs.
    Lost,
    /// What the probes counted as lost, by the probe's number in the list.
    Probe(usize),
}

/// Tracks that are described, and where the last slice of each lane ends.
#[derive(Debug)]
pub(super) struct Tracks {
    known: BTreeMap<Track, u64>,
    vms: BTreeMap<VmId, VmMeta>,
    from_birth: bool,
    ends: BTreeMap<Track, u64>,
}

impl Tracks {
    pub(super) fn new(meta: &Meta) -> Self {
        Self {
            known: BTreeMap::new(),
            vms: meta
                .vms
                .iter()
                .map(|vm| (VmId(vm.vm), vm.clone()))
                .collect(),
            from_birth: meta.sees().from_birth,
            ends: BTreeMap::new(),
        }
    }

    /// Its number, and its description if this is the first event on it.
    pub(super) fn of(&mut self, track: Track, to: &mut Packets) -> Result<u64, ExportError> {
        self.named(track, to, String::new)
    }

    /// The same, of a track that is called after what is in the trace.
    pub(super) fn named(
        &mut self,
        track: Track,
        to: &mut Packets,
        name: impl FnOnce() -> String,
    ) -> Result<u64, ExportError> {
        if let Some(uuid) = self.known.get(&track) {
            return Ok(*uuid);
        }
        let parent = match track.vm() {
            Some(vm) if track != Track::Vm(vm) => Some(self.of(Track::Vm(vm), to)?),
            _ => None,
        };
        // 0 means no track.
        let uuid = self.known.len() as u64 + 1;
        self.known.insert(track, uuid);
        let counts = matches!(track, Track::Pages(_) | Track::Entries(_));
        let description = TrackDescriptor {
            name: Some(match track {
                Track::Probe(_) => name(),
                _ => self.name(track),
            }),
            process: self.process(track),
            parent_uuid: parent,
            counter: counts.then_some(CounterDescriptor { unit: Some(COUNT) }),
            child_ordering: matches!(track, Track::Vm(_)).then_some(EXPLICIT),
            sibling_order_rank: Some(track.rank()),
            ..TrackDescriptor::default()
        };
        to.track(uuid, description)?;
        Ok(uuid)
    }

    /// The first lane in which a slice has room.
    pub(super) fn lane(
        &mut self,
        [from, end]: [u64; 2],
        track: impl Fn(usize) -> Track,
    ) -> Option<Track> {
        let mut lanes = (0..LANES).map(track);
        let is_free = |track: &Track| self.ends.get(track).is_none_or(|end| *end <= from);
        let lane = lanes.find(is_free)?;
        self.ends.insert(lane, end);
        Some(lane)
    }

    fn process(&self, track: Track) -> Option<ProcessDescriptor> {
        let Track::Vm(vm) = track else { return None };
        let meta = self.vms.get(&vm)?;
        Some(ProcessDescriptor {
            pid: i32::try_from(meta.pid).ok(),
            process_name: Some(plain(&meta.name)),
        })
    }

    fn name(&self, track: Track) -> String {
        let lane = |lane: usize| match lane {
            0 => String::new(),
            more => format!(" ({})", more + 1),
        };
        let seen = match self.from_birth {
            true => "",
            false => " (as far as known)",
        };
        match track {
            Track::Vm(vm) => format!("VM {}", vm.0),
            Track::Phases(_) => "phases".to_owned(),
            Track::Faults(_, vcpu, at) => format!("vCPU {}{}", vcpu.0, lane(at)),
            Track::Acts(_, Some(vcpu), at) => format!("vCPU {}: acts{}", vcpu.0, lane(at)),
            Track::Acts(_, None, at) => format!("acts of other threads{}", lane(at)),
            Track::Removals(_) => "what removed entries that faulted again".to_owned(),
            Track::Host(_) => "what the host did".to_owned(),
            Track::Keyframes(_) => "keyframes".to_owned(),
            Track::Pages(_) => format!("shadow pages{seen}"),
            Track::Entries(_) => format!("shadow entries{seen}"),
            Track::Lost => "lost records".to_owned(),
            Track::Probe(_) => String::new(),
        }
    }
}

impl Track {
    fn vm(self) -> Option<VmId> {
        match self {
            Self::Vm(vm)
            | Self::Phases(vm)
            | Self::Faults(vm, ..)
            | Self::Acts(vm, ..)
            | Self::Removals(vm)
            | Self::Host(vm)
            | Self::Keyframes(vm)
            | Self::Pages(vm)
            | Self::Entries(vm) => Some(vm),
            Self::Lost | Self::Probe(_) => None,
        }
    }

    /// Its place below the VM.
    fn rank(self) -> i32 {
        match self {
            Self::Lost | Self::Vm(_) | Self::Phases(_) => 0,
            Self::Pages(_) | Self::Probe(_) => 1,
            Self::Entries(_) => 2,
            // A vCPU's acts are below its faults.
            Self::Faults(_, vcpu, _) => 3 + 2 * i32::from(vcpu.0),
            Self::Acts(_, Some(vcpu), _) => 4 + 2 * i32::from(vcpu.0),
            Self::Acts(_, None, _) => 1 << 18,
            Self::Removals(_) => (1 << 18) + 1,
            Self::Host(_) => (1 << 18) + 2,
            Self::Keyframes(_) => (1 << 18) + 3,
        }
    }
}
