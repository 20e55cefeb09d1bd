//! What the kernel itself measures of each program (`kernel.bpf_stats_enabled`), for one more run
//! that is not among the rounds.
//!
//! The counts cover a whole run, and most of it is not faults. So they are also read
//! during the run, and the last reading before the faults separates the two.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use aya::programs::loaded_programs;
use serde::Serialize;

use crate::guest::Guest;

const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// Runs once for each fault that ends in a shadow entry.
const ONCE_A_FAULT: &str = "kvm_mmu_spte_requested";
/// The kernel cuts a program's name.
const NAME_BYTES: usize = 15;
/// Between two readings.
const PAUSE: Duration = Duration::from_millis(2);

/// The kernel's measure; its own two readings of the clock are in it.
#[derive(Debug, Serialize)]
pub struct Programs {
    pub programs: Vec<Program>,
    /// Sum over the programs.
    pub ns_a_fault: f64,
    /// Sum over the programs.
    pub ns_an_emulated_page: f64,
}

/// One program.
#[derive(Debug, Serialize)]
pub struct Program {
    pub name: String,
    /// While the guest faults.
    pub fault: Cost,
    /// Before that, while the guest's kernel is emulated.
    pub emulated_page: Cost,
}

/// What it cost for each fault, or each page mapped by the guest's kernel.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    pub runs: f64,
    pub ns: f64,
}

impl Cost {
    /// Of one run.
    pub fn ns_a_run(self) -> Option<f64> {
        (self.runs > 0.0).then(|| self.ns / self.runs)
    }
}

/// Runs and ns.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    runs: u64,
    ns: u64,
}

/// Runs the guest once more.
pub fn measure(guest: &Guest<'_>) -> anyhow::Result<Programs> {
    let counting = Counting::start()?;
    let stop = AtomicBool::new(false);
    let (run, before) = thread::scope(|scope| {
        let watch = scope.spawn(|| last_before_faults(guest.pages / 100, &stop));
        let run = guest.traced("programs");
        stop.store(true, Ordering::Release);
        (run, watch.join().unwrap_or_default())
    });
    let meta = run?
        .recorded
        .context("a traced run recorded nothing")?
        .meta()?;
    drop(counting);
    let end = meta.end.context("the trace was cut")?;

    let total = |name: &str| end.programs.iter().find(|program| program.name == name);
    let faults = total(ONCE_A_FAULT)
        .map_or(0, |program| program.runs)
        .saturating_sub(before_of(&before, ONCE_A_FAULT).runs);
    let mut programs: Vec<Program> = end
        .programs
        .iter()
        .map(|program| {
            let before = before_of(&before, &program.name);
            Program {
                name: program.name.clone(),
                fault: Cost {
                    runs: program.runs.saturating_sub(before.runs) as f64 / faults as f64,
                    ns: program.ns.saturating_sub(before.ns) as f64 / faults as f64,
                },
                emulated_page: Cost {
                    runs: before.runs as f64 / guest.pages as f64,
                    ns: before.ns as f64 / guest.pages as f64,
                },
            }
        })
        .collect();
    programs.sort_by(|a, b| b.fault.ns.total_cmp(&a.fault.ns));
    Ok(Programs {
        ns_a_fault: programs.iter().map(|program| program.fault.ns).sum(),
        ns_an_emulated_page: programs
            .iter()
            .map(|program| program.emulated_page.ns)
            .sum(),
        programs,
    })
}

/// The last counts with at most `few` faults.
fn last_before_faults(few: u64, stop: &AtomicBool) -> BTreeMap<String, Count> {
    let mut last = BTreeMap::new();
    while !stop.load(Ordering::Acquire) {
        let now = counts();
        if !now.is_empty() {
            if before_of(&now, ONCE_A_FAULT).runs > few {
                break;
            }
            last = now;
        }
        thread::sleep(PAUSE);
    }
    last
}

/// Of every program loaded, by the kernel's name for it.
fn counts() -> BTreeMap<String, Count> {
    let named = loaded_programs().flatten().filter_map(|info| {
        let ns = u64::try_from(info.run_time().as_nanos()).ok()?;
        Some((
            info.name_as_str()?.to_owned(),
            Count {
                runs: info.run_count(),
                ns,
            },
        ))
    });
    named.filter(|(name, _)| name.starts_with("kvm_")).collect()
}

fn before_of(counts: &BTreeMap<String, Count>, name: &str) -> Count {
    let cut = name.get(..NAME_BYTES).unwrap_or(name);
    counts.get(cut).copied().unwrap_or_default()
}

/// The kernel counts until this is dropped; then the old setting is restored.
struct Counting {
    before: String,
}

impl Counting {
    fn start() -> anyhow::Result<Self> {
        let before =
            fs::read_to_string(SYSCTL).with_context(|| format!("while reading {SYSCTL}"))?;
        let counting = Self { before };
        fs::write(SYSCTL, "1").with_context(|| format!("while writing {SYSCTL}"))?;
        Ok(counting)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SYSCTL, self.before.trim()) {
            eprintln!("{SYSCTL} is left at 1: {error}");
        }
    }
}
