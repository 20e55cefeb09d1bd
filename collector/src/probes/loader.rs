//! From the object file to attached programs.

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::{Program, RawTracePoint},
};
use events::{Config, KeyframeCursor, Loss, Vcpu};
use std::sync::Mutex;
use trace::{ProbeState, ProgramCost};

use super::{
    plan::PLAN,
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
    pub(super) states: Vec<ProbeState>,
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
        load(&mut ebpf, &["enrol", "mark", "keyframe"])?;
        let ring = take(&mut ebpf, "RING")?;
        let probes = Self {
            vcpus: take(&mut ebpf, "VCPUS")?,
            cursor: Mutex::new(take(&mut ebpf, "CURSOR")?),
            seq: take(&mut ebpf, "SEQ")?,
            losses: take(&mut ebpf, "LOSSES")?,
            vms: VmMaps::load(&mut ebpf)?,
            ebpf,
            states: Vec::new(),
        };
        Ok((probes, ring))
    }

    /// Attaches what the plan names and notes what became of each; fails if a required one is refused.
    pub fn attach(&mut self) -> Result<(), LoadError> {
        let mut missing = Ok(());
        for hook in PLAN {
            let refused = self.attach_raw(hook.name).err();
            if let (Ok(()), Some(why), true) = (&missing, &refused, hook.required) {
                missing = Err(LoadError::Refused {
                    name: hook.name,
                    why: why.clone(),
                });
            }
            self.states.push(ProbeState {
                name: hook.name.to_owned(),
                hook: format!("raw tracepoint {}", hook.name),
                attached: refused.is_none(),
                note: match refused {
                    None => hook.shows.to_owned(),
                    Some(why) => format!("{why}; {}", hook.without),
                },
            });
        }
        missing
    }

    /// The program and the tracepoint have the same name.
    pub(super) fn attach_raw(&mut self, name: &'static str) -> Result<(), String> {
        let program = raw_tracepoint(&mut self.ebpf, name).map_err(|error| error.to_string())?;
        program.load().map_err(|error| chain(&error))?;
        program.attach(name).map_err(|error| chain(&error))?;
        Ok(())
    }

    /// What became of each probe.
    pub fn states(&self) -> &[ProbeState] {
        &self.states
    }

    /// The kernel's own measure of each program, where `kernel.bpf_stats_enabled` is on.
    pub fn costs(&self) -> Vec<ProgramCost> {
        let info = |name: &str| self.ebpf.program(name)?.info().ok();
        PLAN.iter()
            .filter_map(|hook| {
                let info = info(hook.name)?;
                let ns = u64::try_from(info.run_time().as_nanos()).ok()?;
                let cost = ProgramCost {
                    name: hook.name.to_owned(),
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
        raw_tracepoint(ebpf, name)?.load().map_err(refused)?;
    }
    Ok(())
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

/// An error with its causes; aya keeps the verifier's words in the innermost.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
