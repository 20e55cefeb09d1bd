//! The tracer to compare with: the kernel's own ring buffer, with the four events that a fault
//! which ends in a shadow entry consists of.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

const TRACEFS: &str = "/sys/kernel/tracing";
/// One name for all: a benchmark that was killed leaves an instance, and the next one removes it.
const NAME: &str = "shadowscope-bench";
const EVENTS: [&str; 4] = [
    "kvm_mmu_pagetable_walk",
    "kvm_mmu_paging_element",
    "kvm_mmu_spte_requested",
    "kvm_mmu_set_spte",
];
/// Room on each CPU, KiB a page of the guest. Mapping a page is emulated, at about 130 events of
/// 28 bytes.
const ROOM_KIB: u64 = 8;

/// A separate instance of tracefs. Dropping it removes it.
pub struct Instance {
    path: PathBuf,
}

/// What it recorded.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    pub recorded: u64,
    /// Overwritten or dropped.
    pub lost: u64,
}

impl Instance {
    /// With room for a guest of so many pages; it records nothing yet.
    pub fn make(pages: u64) -> anyhow::Result<Self> {
        mount()?;
        let path = Path::new(TRACEFS).join("instances").join(NAME);
        if path.exists() {
            drop(Self { path: path.clone() });
        }
        fs::create_dir(&path).with_context(|| format!("while making {}", path.display()))?;
        let instance = Self { path };
        instance.set("buffer_size_kb", &(pages * ROOM_KIB).to_string())?;
        // Threads of a process that is followed are followed too.
        instance.set("options/event-fork", "1")?;
        Ok(instance)
    }

    /// Records `command` from its start.
    pub fn follow(&self, command: &mut Command) -> anyhow::Result<()> {
        for event in EVENTS {
            self.set(&format!("events/kvmmmu/{event}/enable"), "1")?;
        }
        let pids = self.open("set_event_pid")?;
        // SAFETY: between fork and exec this only writes to a file that is open, from the stack.
        unsafe { command.pre_exec(move || enter_own_pid(&pids)) };
        Ok(())
    }

    /// Stops recording.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.set("events/enable", "0")
    }

    /// What was recorded and lost, on all CPUs.
    pub fn events(&self) -> anyhow::Result<Events> {
        let mut events = Events {
            recorded: 0,
            lost: 0,
        };
        let folder = self.path.join("per_cpu");
        let cpus =
            fs::read_dir(&folder).with_context(|| format!("while reading {}", folder.display()))?;
        for cpu in cpus {
            let path = cpu?.path().join("stats");
            let text = fs::read_to_string(&path)
                .with_context(|| format!("while reading {}", path.display()))?;
            let number = |name: &str| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                line.and_then(|value| value.parse::<u64>().ok())
                    .with_context(|| format!("no `{name}` in {}", path.display()))
            };
            events.recorded += number("entries")?;
            events.lost +=
                number("overrun")? + number("commit overrun")? + number("dropped events")?;
        }
        ensure!(
            events.recorded > 0,
            "tracefs recorded nothing of the collector"
        );
        Ok(events)
    }

    fn set(&self, file: &str, value: &str) -> anyhow::Result<()> {
        let path = self.path.join(file);
        self.open(file)?
            .write_all(value.as_bytes())
            .with_context(|| format!("while writing {value} to {}", path.display()))
    }

    fn open(&self, file: &str) -> anyhow::Result<File> {
        let path = self.path.join(file);
        let opened = OpenOptions::new().write(true).truncate(true).open(&path);
        opened.with_context(|| format!("while opening {}", path.display()))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The kernel disables its events first.
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

fn mount() -> anyhow::Result<()> {
    if Path::new(TRACEFS).join("instances").is_dir() {
        return Ok(());
    }
    let status = Command::new("mount")
        .args(["-t", "tracefs", "none", TRACEFS])
        .status();
    let status = status.context("while starting mount")?;
    ensure!(
        status.success(),
        "cannot mount tracefs at {TRACEFS}: mount ended with {status}"
    );
    Ok(())
}

/// Runs in the child before exec, where nothing may be allocated.
fn enter_own_pid(mut pids: &File) -> io::Result<()> {
    let mut text = [0; 16];
    let mut rest = text.as_mut_slice();
    write!(rest, "{}", rustix::process::getpid().as_raw_nonzero())?;
    let free = rest.len();
    let used = text.len() - free;
    pids.write_all(&text[..used])
}
