//! The compiled probes: from the object file to maps and to programs that the kernel accepts.

use std::{
    collections::BTreeSet,
    io,
    num::NonZero,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
    programs::{Program, ProgramError, RawTracePoint},
};
use events::Config;

use super::Platform;
use crate::failure::chain;

/// The compiled probes. Aligned, since the object is parsed in place.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probes"));

/// Room in the probes' maps.
#[derive(Clone, Copy)]
pub struct Room {
    /// Of the ring buffer.
    ring_bytes: u32,
    /// Unsync pages of which a copy is kept, of all VMs.
    unsync_pages: u32,
    /// Shadow pages of all VMs, and guest's tables that they shadow.
    pages: u32,
}

/// KVM lets a VM have a shadow page for each 50 pages of its memory
/// (`KVM_PERMILLE_MMU_PAGES`, 20), unless its VMM sets another limit.
const MEMORY_PAGES: u64 = 50;
/// Room for shadow pages, least and most. Each costs about 150 bytes of kernel memory.
const PAGES: [u64; 2] = [1 << 18, 1 << 23];

impl Room {
    /// Where nothing is recorded: a page, and an entry.
    pub const NONE: Self = Self {
        ring_bytes: 4096,
        unsync_pages: 1,
        pages: 1,
    };

    /// To record. Copies are kept where functions cannot be hooked: 33 MiB of kernel memory. The VMs
    /// may together have twice the memory of the host, `memory_pages`.
    pub fn new(ring_bytes: u32, platform: Platform, memory_pages: u64) -> Self {
        let [least, most] = PAGES;
        let pages = (2 * memory_pages / MEMORY_PAGES).clamp(least, most);
        Self {
            ring_bytes,
            unsync_pages: if platform.kprobes { 1 } else { 8192 },
            pages: u32::try_from(pages).unwrap_or(u32::MAX),
        }
    }
}

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

/// The object with its maps; no program is loaded yet.
pub(super) fn object(config: &Config, room: Room, verbose: bool) -> Result<Ebpf, LoadError> {
    // Frozen like the configuration: without -v the verifier drops the probes' log altogether.
    let log_level = if verbose {
        aya_log::Level::Debug as u8
    } else {
        0
    };
    let ebpf = EbpfLoader::new()
        .override_global("CONFIG", bytemuck::bytes_of(config), true)
        .override_global("AYA_LOG_LEVEL", &log_level, false)
        .map_max_entries("RING", room.ring_bytes)
        .map_max_entries("UNSYNC", room.unsync_pages)
        .map_max_entries("PAGES", room.pages)
        .map_max_entries("SHADOWS", room.pages)
        .load(OBJECT)?;
    Ok(ebpf)
}

/// Programs that the verifier needs longest for, the longest last. They are loaded first: whatever
/// comes last is waited for alone.
const LONGEST: [&str; 4] = [
    "kvm_mmu_prepare_zap_page",
    "kvm_userspace_exit",
    "acted",
    "kvm_mmu_pagetable_walk",
];

/// Loads programs, several at a time: the verifier needs up to a second for one, and programs of
/// root do not wait for each other. One of `ahead` that is refused is left for when it is attached.
/// Gives those of `ahead` that are loaded.
pub(super) fn load(
    ebpf: &mut Ebpf,
    on_request: &[&'static str],
    ahead: &BTreeSet<&'static str>,
) -> Result<BTreeSet<&'static str>, LoadError> {
    for &name in on_request {
        raw_tracepoint(ebpf, name)?;
    }
    let on_request: BTreeSet<&'static str> = on_request.iter().copied().collect();
    let wanted: BTreeSet<&'static str> = on_request.union(ahead).copied().collect();
    let programs = ebpf.programs_mut();
    let mut programs: Vec<_> = programs
        .filter_map(|(name, program)| Some((*wanted.get(name)?, program)))
        .collect();
    // They are taken from the end.
    programs.sort_by_key(|(name, _)| LONGEST.iter().position(|long| long == name));
    let (queue, done) = (Mutex::new(programs), Mutex::new(Vec::new()));
    let work = || {
        // The queue is locked only while one is taken.
        let next = || locked(&queue).pop();
        while let Some((name, program)) = next() {
            let loaded = match program {
                Program::RawTracePoint(program) => verify(|| program.load()),
                Program::KProbe(program) => verify(|| program.load()),
                _ => continue,
            };
            locked(&done).push((name, loaded));
        }
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, NonZero::get) {
            let verifier = thread::Builder::new().name("verifier".to_owned());
            // Without another thread: one after the other.
            let _ = verifier.spawn_scoped(scope, work);
        }
        work();
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut loaded = BTreeSet::new();
    for (name, result) in done {
        match result {
            Ok(()) => loaded.extend(ahead.get(name)),
            Err(error) if on_request.contains(name) => {
                let why = chain(&error);
                return Err(LoadError::Refused { name, why });
            }
            Err(_) => {}
        }
    }
    Ok(loaded)
}

/// A thread that panicked leaves a whole list.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the verifier may be interrupted again and again. It needs at most a second for a
/// program on a busy machine.
const INTERRUPTED: Duration = Duration::from_secs(30);

/// Loads a program. The verifier gives up at any signal, also when a tracer stops the thread
/// (another collector that traces this VM): that says nothing about the program.
pub(super) fn verify(
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    let begin = Instant::now();
    loop {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock
                    && begin.elapsed() < INTERRUPTED => {}
            loaded => return loaded,
        }
    }
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
pub(super) fn refusal(error: &ProgramError) -> String {
    let system = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    if let (ProgramError::SyscallError(error), Some(libc::ENOENT)) = (error, system)
        && error.call == "perf_event_open"
    {
        return "this kernel has no separate code for the function".to_owned();
    }
    let text = chain(error);
    // The verifier's verdict is at the end.
    match text.char_indices().rev().nth(LONGEST_REFUSAL) {
        Some((from, _)) => {
            let head = text.lines().next().unwrap_or_default();
            let head: String = head.chars().take(LONGEST_REFUSAL / 2).collect();
            format!("{head} ... {}", &text[from..])
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGES, Platform, Room};

    const NO_PROBES: Platform = Platform {
        pvm: true,
        kprobes: false,
    };

    #[test]
    fn room_for_shadow_pages_follows_the_memory_of_the_host() {
        let gib = |gib: u64| gib << 18;
        let rooms = [1, 16, 64, 256, 4096].map(|memory| {
            let room = Room::new(4096, NO_PROBES, gib(memory));
            u64::from(room.pages)
        });
        let limit_of_kvm = |memory| 2 * gib(memory) / 50;
        let [least, most] = PAGES;
        assert_eq!(
            rooms,
            [least, least, limit_of_kvm(64), limit_of_kvm(256), most]
        );
    }
}
