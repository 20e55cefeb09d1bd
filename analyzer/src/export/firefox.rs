//! A trace as a processed profile for the Firefox Profiler.
//!
//! A vCPU is a thread. Each fault is a marker with its addresses, and as many samples as it took
//! nanoseconds, one stack for each step: the call tree then adds up where the time in KVM went.

use std::{collections::BTreeMap, io::Write as _, path::Path, sync::Arc, time::Duration};

use events::{Class, VcpuId, VmId};
use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, MarkerFieldFlags,
    MarkerFieldFormat, MarkerLocations, MarkerTiming, ProcessHandle, Profile, ReferenceTimestamp,
    SamplingInterval, StaticSchemaMarker, StaticSchemaMarkerField, StringHandle, ThreadHandle,
    Timestamp, WeightType,
};
use trace::{FaultRow, Meta, Record, VmMeta};

use super::{Context, ExportError, Lost, Output, Sink, spans::Span, steps};
use crate::{
    faults::FaultStep,
    symbols::{Symbols, short},
    text::{plain, units::plural},
};

/// The Profiler holds all of a profile in memory, several hundred bytes a fault.
pub const MOST_FAULTS: u64 = 1_000_000;
/// vCPUs, and VMs for what is of none, each a track of the Profiler: as many as KVM's
/// `KVM_MAX_VCPUS` can be made, and more than anybody can look at.
pub const MOST_THREADS: usize = 4096;

/// Samples that a profile has beside the first of each step: one for each 2.1 s, so that all faults
/// together may take 39 hours longer.
pub const MOST_LONG: u32 = 1 << 16;

/// Builds a profile, and writes it at the end.
pub struct Firefox {
    to: Output,
    profile: Profile,
    symbols: Arc<Symbols>,
    vms: BTreeMap<VmId, VmMeta>,
    /// The moment that all others are relative to, ns.
    start: u64,
    categories: [(Class, CategoryHandle); Class::ALL.len()],
    processes: BTreeMap<VmId, ProcessHandle>,
    threads: BTreeMap<(VmId, Option<VcpuId>), ThreadHandle>,
    faults: u64,
    /// Samples beside the first of each step.
    long: u32,
}

impl std::fmt::Debug for Firefox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Firefox")
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// The figures' colours, as near as the Profiler's come.
const fn colour(class: Class) -> CategoryColor {
    match class {
        Class::Guest => CategoryColor::Orange,
        Class::Shadow => CategoryColor::Blue,
        Class::WriteProtected => CategoryColor::Red,
        Class::Unsync => CategoryColor::Magenta,
        Class::Mmio => CategoryColor::Green,
        Class::Fast => CategoryColor::LightBlue,
        Class::Spurious => CategoryColor::Yellow,
        Class::Retried => CategoryColor::Gray,
        Class::Failed => CategoryColor::DarkGray,
    }
}

impl Firefox {
    /// Nothing yet. `name` is that of the trace.
    pub fn new(to: Output, name: &Path, meta: &Meta, symbols: &Arc<Symbols>) -> Self {
        let subsec = meta.started_unix_subsec_ns.unwrap_or_default();
        let started = Duration::from_secs(meta.started_unix_s)
            .saturating_add(Duration::from_nanos(subsec.into()));
        let product = format!(
            "{}: 1 sample is 1 ns in KVM",
            plain(&name.to_string_lossy())
        );
        let mut profile = Profile::new(
            &product,
            ReferenceTimestamp::from_duration_since_unix_epoch(started),
            SamplingInterval::from_nanos(1000),
        );
        profile.set_os_name(&plain(&meta.host.kernel));
        profile.set_symbolicated(true);
        let categories =
            Class::ALL.map(|class| (class, profile.add_category(class.name(), colour(class))));
        let vms = meta.vms.iter().map(|vm| (VmId(vm.vm), vm.clone()));
        Self {
            to,
            profile,
            symbols: Arc::clone(symbols),
            vms: vms.collect(),
            start: meta.started_ns,
            categories,
            processes: BTreeMap::new(),
            threads: BTreeMap::new(),
            faults: 0,
            long: 0,
        }
    }

    fn time(&self, ns: u64) -> Timestamp {
        Timestamp::from_nanos_since_reference(ns.saturating_sub(self.start))
    }

    fn span(&self, [from, to]: [u64; 2]) -> MarkerTiming {
        MarkerTiming::Interval(self.time(from), self.time(to))
    }

    fn category(&self, class: Class) -> CategoryHandle {
        let mut of = self.categories.iter();
        of.find(|(other, _)| *other == class)
            .map_or(CategoryHandle::OTHER, |(_, category)| *category)
    }

    /// A vCPU, or what is of a VM as a whole.
    fn thread(&mut self, vm: VmId, vcpu: Option<VcpuId>) -> ThreadHandle {
        if let Some(thread) = self.threads.get(&(vm, vcpu)) {
            return *thread;
        }
        let begun = self.time(self.start);
        let process = match self.processes.get(&vm) {
            Some(process) => *process,
            None => {
                let meta = self.vms.get(&vm);
                let name = match meta.map(|meta| plain(&meta.name)) {
                    Some(name) if !name.is_empty() => format!("VM {} ({name})", vm.0),
                    _ => format!("VM {}", vm.0),
                };
                let pid = meta.map_or(0, |meta| meta.pid);
                let process = self.profile.add_process(&name, pid, begun);
                self.processes.insert(vm, process);
                process
            }
        };
        // The trace has no thread ids.
        let tid = vcpu.map_or(u32::MAX, |vcpu| vcpu.0.into());
        let thread = self.profile.add_thread(process, tid, begun, vcpu.is_none());
        let name = match vcpu {
            Some(vcpu) => format!("vCPU {}", vcpu.0),
            None => "lost records and phases".to_owned(),
        };
        self.profile.set_thread_name(thread, &name);
        let weights = WeightType::Samples;
        self.profile.set_thread_samples_weight_type(thread, weights);
        self.profile
            .set_thread_show_markers_in_timeline(thread, true);
        self.threads.insert((vm, vcpu), thread);
        thread
    }

    fn words(&mut self, text: Option<String>) -> StringHandle {
        self.profile
            .intern_string(text.as_deref().unwrap_or_default())
    }

    fn marker(&mut self, of: &Context<'_>, row: &FaultRow) -> FaultMarker {
        let removal = of.refault.and_then(|refault| refault.removal);
        let symbol = row.rip.and_then(|rip| self.symbols.place(rip));
        let removed = of.refault.map(|refault| match (refault.name(), removal) {
            (cause, Some(removal)) => {
                let over = if refault.over_gap { ", over a gap" } else { "" };
                format!("{cause} (seq {}, {}){over}", removal.seq.0, removal.what())
            }
            (cause, None) => cause.to_owned(),
        });
        FaultMarker {
            name: self.profile.intern_string(row.class.name()),
            category: self.category(row.class),
            seq: row.seq.0,
            words: [
                self.words(Some(row.gva.to_string())),
                self.words(row.gpa.map(|gpa| gpa.to_string())),
                self.words(Some(format!("{:#x}", row.error_code.0))),
                self.words(row.rip.map(|rip| rip.to_string())),
                self.words(symbol.map(|name| short(&name))),
                self.words(Some(row.cr3.to_string())),
                self.words(removed),
            ],
        }
    }

    /// A step of a fault, or the time that no step covers, as samples.
    fn samples(
        &mut self,
        thread: ThreadHandle,
        at: u64,
        ns: u64,
        names: impl IntoIterator<Item = StringHandle>,
        class: Class,
    ) {
        let category_pair = self.category(class).into();
        let frames = names.into_iter().map(|name| FrameInfo {
            frame: Frame::Label(name),
            category_pair,
            flags: FrameFlags::empty(),
        });
        let stack = self.profile.intern_stack_frames(thread, frames);
        let at = self.time(at);
        let mut rest = ns;
        while rest > 0 {
            // A weight has 31 bits: 2.1 s.
            let weight = i32::try_from(rest).unwrap_or(i32::MAX);
            self.profile
                .add_sample(thread, at, stack, CpuDelta::ZERO, weight);
            rest -= u64::from(weight.unsigned_abs());
            self.long += u32::from(rest > 0);
            if self.long > MOST_LONG {
                return;
            }
        }
    }

    /// All samples of a fault: as many as it took nanoseconds.
    fn sampled(&mut self, thread: ThreadHandle, of: &Context<'_>, row: &FaultRow) {
        let class = self.profile.intern_string(row.class.name());
        let cause = match of.refault {
            Some(refault) => format!("removed by {}", refault.name()),
            None => "no refault".to_owned(),
        };
        let cause = self.profile.intern_string(&cause);
        let mut rest = row.total_ns;
        for step in steps::placed(row).unwrap_or_default() {
            rest = rest.saturating_sub(step.ns);
            let at = row.time_ns.0.saturating_add(step.from);
            let name = |profile: &mut Profile, step: FaultStep| profile.intern_string(step.name());
            let whole = name(&mut self.profile, step.step);
            let part = step.part.map_or(0, |(_, ns)| ns);
            self.samples(thread, at, step.ns - part, [class, cause, whole], row.class);
            if let Some((of, ns)) = step.part {
                let part = name(&mut self.profile, of);
                let at = at.saturating_add(step.ns - ns);
                self.samples(thread, at, ns, [class, cause, whole, part], row.class);
            }
        }
        let none = self.profile.intern_string("(not attributed)");
        self.samples(thread, row.time_ns.0, rest, [class, cause, none], row.class);
    }

    fn note(&mut self, vm: VmId, timing: MarkerTiming, text: &str) {
        let thread = self.thread(vm, None);
        let name = self.profile.intern_string(text);
        self.profile.add_marker(thread, timing, Note { name });
    }

    fn lost(&mut self, by: &str, spans: &[Span]) {
        let vm = self.vms.keys().next().copied().unwrap_or(VmId(0));
        for span in spans {
            let text = format!("{} lost{by}", plural(span.records, "record"));
            self.note(vm, self.span(span.ns), &text);
        }
    }
}

impl Sink for Firefox {
    fn fault(&mut self, of: &Context<'_>, row: &FaultRow) -> Result<(), ExportError> {
        self.faults += 1;
        if self.faults > MOST_FAULTS {
            return Err(ExportError::TooManyFaults);
        }
        let thread = self.thread(of.vm, Some(row.vcpu));
        if self.threads.len() > MOST_THREADS {
            return Err(ExportError::TooManyThreads);
        }
        let from = row.time_ns.0;
        let timing = self.span([from, from.saturating_add(row.total_ns)]);
        let marker = self.marker(of, row);
        self.profile.add_marker(thread, timing, marker);
        self.sampled(thread, of, row);
        match self.long > MOST_LONG {
            true => Err(ExportError::TooLong { seq: row.seq.0 }),
            false => Ok(()),
        }
    }

    fn record(&mut self, of: &Context<'_>, record: &Record) -> Result<(), ExportError> {
        if let Record::Mark(row) = record
            && row.ends_keyframe().is_none()
        {
            let at = MarkerTiming::Instant(self.time(row.time_ns.0));
            self.note(of.vm, at, &format!("phase {}", plain(&row.name)));
        }
        Ok(())
    }

    fn finish(&mut self, lost: &Lost) -> Result<(), ExportError> {
        self.lost("", &lost.gaps);
        for (probe, spans) in &lost.probes {
            self.lost(&format!(" by the probe {}", plain(probe)), spans);
        }
        if let Some((at, why)) = &lost.ended {
            let vm = self.vms.keys().next().copied().unwrap_or(VmId(0));
            let at = MarkerTiming::Instant(self.time(*at));
            self.note(vm, at, why);
        }
        serde_json::to_writer(&mut self.to, &self.profile)?;
        Ok(self.to.flush()?)
    }
}

/// A fault.
struct FaultMarker {
    name: StringHandle,
    category: CategoryHandle,
    seq: u64,
    words: [StringHandle; 7],
}

const fn words(key: &'static str, label: &'static str) -> StaticSchemaMarkerField {
    StaticSchemaMarkerField {
        key,
        label,
        format: MarkerFieldFormat::String,
        flags: MarkerFieldFlags::SEARCHABLE,
    }
}

impl StaticSchemaMarker for FaultMarker {
    const UNIQUE_MARKER_TYPE_NAME: &'static str = "fault";
    const DESCRIPTION: Option<&'static str> = Some("A guest fault that KVM handled");
    const CHART_LABEL: Option<&'static str> = Some("{marker.name} {marker.data.gva}");
    const TOOLTIP_LABEL: Option<&'static str> = Some("{marker.name}, seq {marker.data.seq}");
    const TABLE_LABEL: Option<&'static str> =
        Some("{marker.name} gva {marker.data.gva} seq {marker.data.seq}");
    const FIELDS: &'static [StaticSchemaMarkerField] = &[
        words("gva", "gva"),
        words("gpa", "gpa"),
        words("error_code", "error code"),
        words("rip", "rip"),
        words("symbol", "function"),
        words("cr3", "cr3"),
        words("removed_by", "entry removed by"),
        StaticSchemaMarkerField {
            key: "seq",
            label: "seq",
            format: MarkerFieldFormat::Integer,
            flags: MarkerFieldFlags::SEARCHABLE,
        },
    ];

    fn name(&self, _: &mut Profile) -> StringHandle {
        self.name
    }

    fn category(&self, _: &mut Profile) -> CategoryHandle {
        self.category
    }

    fn string_field_value(&self, field: u32) -> StringHandle {
        let at = usize::try_from(field).unwrap_or_default();
        self.words.get(at).copied().unwrap_or(self.name)
    }

    fn number_field_value(&self, _: u32) -> f64 {
        // Exact below 2^53.
        self.seq as f64
    }
}

/// A phase, or lost records.
struct Note {
    name: StringHandle,
}

impl StaticSchemaMarker for Note {
    const UNIQUE_MARKER_TYPE_NAME: &'static str = "note";
    const LOCATIONS: MarkerLocations = MarkerLocations::MARKER_CHART
        .union(MarkerLocations::MARKER_TABLE)
        .union(MarkerLocations::TIMELINE_OVERVIEW);
    const FIELDS: &'static [StaticSchemaMarkerField] = &[];

    fn name(&self, _: &mut Profile) -> StringHandle {
        self.name
    }

    fn category(&self, _: &mut Profile) -> CategoryHandle {
        CategoryHandle::OTHER
    }

    fn string_field_value(&self, _: u32) -> StringHandle {
        self.name
    }

    fn number_field_value(&self, _: u32) -> f64 {
        0.0
    }
}
