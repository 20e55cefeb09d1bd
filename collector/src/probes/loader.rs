//! From the object file to attached programs.

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::{Program, ProgramError, RawTracePoint},
};
use events::{Config, KeyframeCursor, Loss, Vcpu};
use std::{collections::BTreeSet, io, sync::Mutex};
use trace::{ProbeState, ProgramCost, Stores, Tried};

use super::{
    KernelTypes,
    plan::{Attachment, Candidate, EVERY_CHANGE, EVERY_STORE, Hook, PLAN, Silent, Step},
    vms::VmMaps,
};

/// The compiled probes. Aligned, since the object is parsed in place.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probes"));

/// The ring buffer, as the drain reads it.
pub type Ring = RingBuf<MapData>;

/// Why the probes are not in place.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object as a whole was refused.
    #[error("the kernel refused the probes' maps")]
    Object(#[from] aya::EbpfError),
    /// A map of the object has another shape than this program expects.
    #[error("map {name} of the probes")]
    Map {
        /// Its name.
        name: &'static str,
        /// What aya said.
        source: aya::maps::MapError,
    },
    /// Something that the build put into the object is not there.
    #[error("the probes were built without `{0}`")]
    Absent(&'static str),
    /// A program without which nothing useful is recorded was refused.
    #[error("cannot attach {name}: {why}")]
    Refused {
        /// The program.
        name: &'static str,
        /// What the kernel said.
        why: String,
    },
}

/// A type of the kernel side as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub T);

// SAFETY: `bytemuck::Pod` promises all that `aya::Pod` asks for.
unsafe impl<T: bytemuck::Pod> aya::Pod for Plain<T> {}

/// Loaded probes. Dropping them detaches.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    pub(super) vcpus: HashMap<MapData, u32, Plain<Vcpu>>,
    pub(super) cursor: Mutex<Array<MapData, Plain<KeyframeCursor>>>,
    pub(super) seq: Array<MapData, u64>,
    pub(super) losses: PerCpuArray<MapData, Plain<Loss>>,
    pub(super) vms: VmMaps,
    /// Whether every change outside a fault has a record of its own.
    told: Array<MapData, u32>,
    pub(super) states: Vec<ProbeState>,
    /// Programs that the kernel has accepted; one may be attached to several places.
    loaded: BTreeSet<&'static str>,
}

/// What decides about a probe before the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The hypervisor is KVM-PVM.
    pub pvm: bool,
    /// The kernel can put probes on functions.
    pub kprobes: bool,
}

/// Takes a program off its place.
type Detach = Box<dyn FnOnce(&mut Ebpf)>;

/// The places of a candidate, in words.
fn hooks(candidate: Candidate) -> String {
    let names: Vec<_> = candidate
        .iter()
        .map(|attachment| attachment.hook.to_string())
        .collect();
    names.join(", ")
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes")
            .field("states", &self.states)
            .finish_non_exhaustive()
    }
}

impl Probes {
    /// Loads the programs that run on request; nothing is attached yet.
    pub fn load(
        config: &Config,
        ring_bytes: u32,
        verbose: bool,
    ) -> Result<(Self, Ring), LoadError> {
        let mut ebpf = object(config, ring_bytes, verbose)?;
        load(&mut ebpf, &["enrol", "mark", "keyframe", "acted"])?;
        let ring = take(&mut ebpf, "RING")?;
        let probes = Self {
            vcpus: take(&mut ebpf, "VCPUS")?,
            cursor: Mutex::new(take(&mut ebpf, "CURSOR")?),
            seq: take(&mut ebpf, "SEQ")?,
            losses: take(&mut ebpf, "LOSSES")?,
            vms: VmMaps::load(&mut ebpf)?,
            told: take(&mut ebpf, "TOLD")?,
            ebpf,
            states: Vec::new(),
            loaded: BTreeSet::new(),
        };
        Ok((probes, ring))
    }

    /// Attaches what the plan names, the best way that this kernel grants, and notes what became of
    /// each; fails if a required step is refused.
    pub fn attach(&mut self, types: &KernelTypes, platform: Platform) -> Result<(), LoadError> {
        let mut missing = Ok(());
        for step in PLAN {
            let state = self.attach_step(step, types, platform);
            if let (Ok(()), false, true) = (&missing, state.attached, step.required) {
                missing = Err(LoadError::Refused {
                    name: step.name,
                    why: state.note.clone(),
                });
            }
            if step.name == EVERY_CHANGE && state.attached {
                self.told.set(0, 1, 0).map_err(|source| LoadError::Map {
                    name: "TOLD",
                    source,
                })?;
            }
            self.states.push(state);
        }
        missing
    }

    pub(super) fn attach_step(
        &mut self,
        step: &Step,
        types: &KernelTypes,
        platform: Platform,
    ) -> ProbeState {
        let state = |hook: String, attached, note: String, tried| ProbeState {
            name: step.name.to_owned(),
            hook,
            attached,
            note,
            tried,
        };
        let first = step
            .candidates
            .first()
            .map_or_else(String::new, |all| hooks(all));
        let mut tried = Vec::new();
        for candidate in step.candidates {
            if step.silent == Silent::OnPvm && platform.pvm {
                tried.push(Tried {
                    hook: hooks(candidate),
                    refused: "KVM-PVM enters and leaves the guest without it".to_owned(),
                });
                continue;
            }
            match self.attach_all(candidate, types, platform) {
                Ok(()) => return state(hooks(candidate), true, step.shows.to_owned(), tried),
                Err(refused) => tried.push(Tried {
                    hook: hooks(candidate),
                    refused,
                }),
            }
        }
        let refusals: BTreeSet<_> = tried.iter().map(|tried| tried.refused.as_str()).collect();
        let why = Vec::from_iter(refusals).join("; ");
        let note = format!("{why}; {}", step.without);
        state(first, false, note, tried)
    }

    /// All or none.
    fn attach_all(
        &mut self,
        candidate: Candidate,
        types: &KernelTypes,
        platform: Platform,
    ) -> Result<(), String> {
        for attachment in candidate {
            if matches!(attachment.hook, Hook::Entry(_) | Hook::Return(_)) && !platform.kprobes {
                return Err(
                    "this kernel was built without kprobes (CONFIG_KPROBE_EVENTS)".to_owned(),
                );
            }
            attachment.fits(types)?;
        }
        let mut undo = Vec::new();
        for attachment in candidate {
            match self.attach_one(attachment) {
                Ok(link) => undo.push(link),
                Err(why) => {
                    for detach in undo {
                        detach(&mut self.ebpf);
                    }
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// Attaches one program; what it answers with takes it off again.
    fn attach_one(&mut self, attachment: &Attachment) -> Result<Detach, String> {
        let name = attachment.program;
        let fresh = !self.loaded.contains(name);
        let detach: Detach = match (self.ebpf.program_mut(name), attachment.hook) {
            (Some(Program::RawTracePoint(program)), Hook::Tracepoint(tracepoint)) => {
                if fresh {
                    verify(|| program.load()).map_err(|error| refusal(&error))?;
                    self.loaded.insert(name);
                }
                let link = program
                    .attach(tracepoint)
                    .map_err(|error| refusal(&error))?;
                Box::new(move |ebpf| {
                    if let Some(Program::RawTracePoint(program)) = ebpf.program_mut(name) {
                        // Gone is what it shall be.
                        let _ = program.detach(link);
                    }
                })
            }
            (Some(Program::KProbe(program)), Hook::Entry(function) | Hook::Return(function)) => {
                if fresh {
                    verify(|| program.load()).map_err(|error| refusal(&error))?;
                    self.loaded.insert(name);
                }
                let link = program
                    .attach(function, 0)
                    .map_err(|error| refusal(&error))?;
                Box::new(move |ebpf| {
                    if let Some(Program::KProbe(program)) = ebpf.program_mut(name) {
                        let _ = program.detach(link);
                    }
                })
            }
            _ => return Err(LoadError::Absent(name).to_string()),
        };
        Ok(detach)
    }

    /// Whether every change of an entry outside a fault has a record of its own.
    pub fn sees_every_change(&self) -> bool {
        self.is_attached(EVERY_CHANGE)
    }

    /// Which of the guest's emulated stores have a record.
    pub fn stores(&self) -> Stores {
        match self.is_attached(EVERY_STORE) {
            true => Stores::All,
            false => Stores::ToTables,
        }
    }

    fn is_attached(&self, step: &str) -> bool {
        let mut states = self.states.iter();
        states.any(|state| state.name == step && state.attached)
    }

    /// What became of each probe.
    pub fn states(&self) -> &[ProbeState] {
        &self.states
    }

    /// The kernel's own measure of each program, where `kernel.bpf_stats_enabled` is on.
    pub fn costs(&self) -> Vec<ProgramCost> {
        self.loaded
            .iter()
            .filter_map(|&name| {
                let info = match self.ebpf.program(name)? {
                    Program::RawTracePoint(program) => program.info(),
                    Program::KProbe(program) => program.info(),
                    _ => return None,
                }
                .ok()?;
                let ns = u64::try_from(info.run_time().as_nanos()).ok()?;
                let cost = ProgramCost {
                    name: name.to_owned(),
                    runs: info.run_count(),
                    ns,
                };
                (cost.runs > 0).then_some(cost)
            })
            .collect()
    }

    /// The object, for its log.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

/// The object with its maps; no program is loaded yet.
pub(super) fn object(config: &Config, ring_bytes: u32, verbose: bool) -> Result<Ebpf, LoadError> {
    // Frozen like the configuration: without -v the verifier drops the probes' log altogether.
    let log_level = if verbose {
        aya_log::Level::Debug as u8
    } else {
        0
    };
    let ebpf = EbpfLoader::new()
        .override_global("CONFIG", bytemuck::bytes_of(config), true)
        .override_global("AYA_LOG_LEVEL", &log_level, false)
        .map_max_entries("RING", ring_bytes)
        .load(OBJECT)?;
    Ok(ebpf)
}

/// Loads programs that run on request.
pub(super) fn load(ebpf: &mut Ebpf, names: &[&'static str]) -> Result<(), LoadError> {
    for &name in names {
        let refused = |error| LoadError::Refused {
            name,
            why: chain(&error),
        };
        let program = raw_tracepoint(ebpf, name)?;
        verify(|| program.load()).map_err(refused)?;
    }
    Ok(())
}

/// Times that the verifier may be interrupted.
const INTERRUPTIONS: u32 = 20;

/// Loads a program. The verifier gives up at any signal, and when a tracer looks at the thread
/// (another collector, at this one's VM): that says nothing of the program.
fn verify(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 0..INTERRUPTIONS {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock => {}
            loaded => return loaded,
        }
    }
    load()
}

/// A map by its name and type.
pub(super) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, LoadError>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or(LoadError::Absent(name))?;
    M::try_from(map).map_err(|source| LoadError::Map { name, source })
}

fn raw_tracepoint<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut RawTracePoint, LoadError> {
    match ebpf.program_mut(name) {
        Some(Program::RawTracePoint(program)) => Ok(program),
        _ => Err(LoadError::Absent(name)),
    }
}

/// Longest refusal kept: the verifier writes a line for each instruction.
const LONGEST_REFUSAL: usize = 600;

/// Why the kernel refused a program, in words.
fn refusal(error: &ProgramError) -> String {
    let system = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    if let (ProgramError::SyscallError(error), Some(libc::ENOENT)) = (error, system)
        && error.call == "perf_event_open"
    {
        return "the function has no code of its own in this kernel".to_owned();
    }
    let text = chain(error);
    // The verifier's verdict stands at the end.
    match text.char_indices().rev().nth(LONGEST_REFUSAL) {
        Some((from, _)) => {
            let head = text.lines().next().unwrap_or_default();
            let head: String = head.chars().take(LONGEST_REFUSAL / 2).collect();
            format!("{head} ... {}", &text[from..])
        }
        None => text,
    }
}

/// An error with its causes; aya keeps the verifier's words in the innermost.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
