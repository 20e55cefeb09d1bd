//! Loads the programs and attaches what the plan names.

use std::collections::BTreeSet;

use aya::{Ebpf, programs::Program};
use events::Config;
use trace::{ProbeState, ProgramCost, Stores, Tried};

use super::{
    KernelTypes, LoadError, Ring,
    maps::Maps,
    object::{Room, load, object, refusal, take, verify},
    plan::{EVERY_ACT, EVERY_CHANGE, EVERY_FAULT, EVERY_STORE, PLAN, RUNNING, THREAD_ENDS},
    step::{Attachment, Candidate, Hook, Silent, Step},
};

/// Loaded probes. Dropping them detaches.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    pub(super) maps: Maps,
    states: Vec<ProbeState>,
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

/// Programs that user space runs itself.
const ON_REQUEST: [&str; 11] = [
    "enrol",
    "mark",
    "keyframe",
    "keyframe_root",
    "acted",
    "identify",
    "follow",
    "seat",
    "forget",
    "counters",
    "memslot",
];

/// Detaches a program.
type Detach = Box<dyn FnOnce(&mut Ebpf)>;

/// The hooks of a candidate, in words.
fn hooks(candidate: Candidate) -> String {
    let names: Vec<_> = candidate
        .iter()
        .map(|attachment| attachment.hook.to_string())
        .collect();
    names.join(", ")
}

/// The hooks are there, but the host goes another way.
fn is_silent(step: &Step, platform: Platform) -> bool {
    step.silent == Silent::OnPvm && platform.pvm
}

/// Whether this kernel has all hooks of a candidate; else why not.
fn grants(candidate: Candidate, types: &KernelTypes, platform: Platform) -> Result<(), String> {
    for attachment in candidate {
        if matches!(attachment.hook, Hook::Entry(_) | Hook::Return(_)) && !platform.kprobes {
            return Err("this kernel was built without kprobes (CONFIG_KPROBE_EVENTS)".to_owned());
        }
        attachment.fits(types)?;
    }
    Ok(())
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes")
            .field("states", &self.states)
            .finish_non_exhaustive()
    }
}

impl Probes {
    /// Loads the programs that run on request, and those of `ahead` ([`Probes::planned`]) with
    /// them; nothing is attached yet.
    pub fn load(
        config: &Config,
        room: Room,
        verbose: bool,
        ahead: &BTreeSet<&'static str>,
    ) -> Result<(Self, Ring), LoadError> {
        let mut ebpf = object(config, room, verbose)?;
        let loaded = load(&mut ebpf, &ON_REQUEST, ahead)?;
        let ring = take(&mut ebpf, "RING")?;
        let probes = Self {
            maps: Maps::take(&mut ebpf)?,
            ebpf,
            states: Vec::new(),
            loaded,
        };
        Ok((probes, ring))
    }

    /// The programs that [`Probes::attach`] asks the kernel for first.
    pub fn planned(types: &KernelTypes, platform: Platform) -> BTreeSet<&'static str> {
        let steps = PLAN.iter().chain([&THREAD_ENDS]);
        let steps = steps.filter(|step| !is_silent(step, platform));
        let granted = |candidate: &&Candidate| grants(candidate, types, platform).is_ok();
        let first = steps.filter_map(|step| step.candidates.iter().find(granted));
        first
            .flat_map(|candidate| candidate.iter())
            .map(|attachment| attachment.program)
            .collect()
    }

    /// Attaches what the plan names, the best way that this kernel grants, and notes what became
    /// of each; fails if a required step is refused.
    pub fn attach(&mut self, types: &KernelTypes, platform: Platform) -> Result<(), LoadError> {
        let mut missing = Ok(());
        for step in PLAN.iter().chain([&THREAD_ENDS]) {
            let state = self.attach_step(step, types, platform);
            if let (Ok(()), false, true) = (&missing, state.attached, step.required) {
                missing = Err(LoadError::Refused {
                    name: step.name,
                    why: state.note.clone(),
                });
            }
            if step.name == EVERY_CHANGE && state.attached {
                let map = &mut self.maps.sees_every_change;
                map.set(0, 1, 0).map_err(|source| LoadError::Map {
                    name: "SEES_EVERY_CHANGE",
                    source,
                })?;
            }
            self.states.push(state);
        }
        missing
    }

    /// Attaches the program that sees which thread runs which vCPU. Only threads of VMs that are
    /// followed then are recorded.
    pub fn attach_running(
        &mut self,
        types: &KernelTypes,
        platform: Platform,
    ) -> Result<(), LoadError> {
        let state = self.attach_step(&RUNNING, types, platform);
        let attached = match state.attached {
            true => Ok(()),
            false => Err(LoadError::Refused {
                name: RUNNING.name,
                why: state.note.clone(),
            }),
        };
        self.states.push(state);
        attached
    }

    fn attach_step(&mut self, step: &Step, types: &KernelTypes, platform: Platform) -> ProbeState {
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
            if is_silent(step, platform) {
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
        let note = format!("{why}; {}", step.without(self.sees_every_change()));
        state(first, false, note, tried)
    }

    /// All or none.
    fn attach_all(
        &mut self,
        candidate: Candidate,
        types: &KernelTypes,
        platform: Platform,
    ) -> Result<(), String> {
        grants(candidate, types, platform)?;
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
                        // It fails if it is detached already, which is the aim.
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

    /// Whether every change of an entry outside a fault has its own record.
    pub fn sees_every_change(&self) -> bool {
        self.is_attached(EVERY_CHANGE)
    }

    /// Whether nested guests can be recorded: without their functions, a fault of the guest
    /// hypervisor passes for one of its guest, and changes have no record.
    pub fn sees_nested(&self) -> bool {
        self.is_attached(EVERY_FAULT) && self.sees_every_change()
    }

    /// Which of the guest's emulated stores have a record.
    pub fn stores(&self) -> Stores {
        match self.is_attached(EVERY_STORE) {
            true => Stores::All,
            false => Stores::ToTables,
        }
    }

    /// Whether each act of KVM on the tables has a record with its time.
    pub fn sees_acts(&self) -> bool {
        EVERY_ACT.iter().all(|step| self.is_attached(step))
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
