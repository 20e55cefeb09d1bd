//! An independent observer: the kernel's own histograms of KVM's events. They share nothing with
//! the probes, and lose nothing, since they only count.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;

/// The observer's instance of tracefs.
const INSTANCE: &str = "/sys/kernel/tracing/instances/shadowscope";
/// The tracepoints that are counted.
const EVENTS: &[&str] = &[
    "kvm/kvm_page_fault",
    "kvmmmu/kvm_mmu_spte_requested",
    "kvmmmu/kvm_mmu_set_spte",
    "kvmmmu/kvm_mmu_get_page",
    "kvmmmu/kvm_mmu_prepare_zap_page",
    "kvmmmu/kvm_mmu_walker_error",
    "kvmmmu/kvm_mmu_unsync_page",
    "kvmmmu/kvm_mmu_sync_page",
];

/// Hits by event and by thread.
#[derive(Debug, Serialize)]
pub struct Observed(BTreeMap<String, BTreeMap<u32, u64>>);

/// Counts from [`Observer::start`] to [`Observer::finish`].
#[derive(Debug)]
pub struct Observer(PathBuf);

impl Observer {
    /// Starts the histograms.
    pub fn start() -> anyhow::Result<Self> {
        let instance = PathBuf::from(INSTANCE);
        fs::create_dir(&instance).context("while creating an instance of tracefs")?;
        for event in EVENTS {
            let trigger = instance.join("events").join(event).join("trigger");
            fs::write(&trigger, "hist:keys=common_pid")
                .with_context(|| format!("while counting with {}", trigger.display()))?;
        }
        Ok(Self(instance))
    }

    /// Reads the counts.
    pub fn finish(self) -> anyhow::Result<Observed> {
        let mut counts = BTreeMap::new();
        for event in EVENTS {
            let path = self.0.join("events").join(event).join("hist");
            let text = fs::read_to_string(&path)
                .with_context(|| format!("while reading {}", path.display()))?;
            let name = Path::new(event).file_name().unwrap_or_default();
            let hits = hits(&text).with_context(|| format!("in {}", path.display()))?;
            counts.insert(name.to_string_lossy().into_owned(), hits);
        }
        Ok(Observed(counts))
    }
}

/// Lines such as `{ common_pid:        123 } hitcount:       4096`, then the totals.
fn hits(text: &str) -> anyhow::Result<BTreeMap<u32, u64>> {
    let number = |line: &str, after: &str| -> Option<u64> {
        let (_, rest) = line.split_once(after)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let mut hits = BTreeMap::new();
    for line in text.lines() {
        if let (Some(thread), Some(count)) =
            (number(line, "common_pid:"), number(line, "hitcount:"))
        {
            hits.insert(u32::try_from(thread)?, count);
        }
    }
    let total = text.lines().find_map(|line| number(line, "Hits:"));
    let dropped = text.lines().find_map(|line| number(line, "Dropped:"));
    ensure!(
        total == Some(hits.values().sum()) && dropped == Some(0),
        "the histogram does not add up: {total:?} hits, {dropped:?} dropped, {hits:?}"
    );
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use super::hits;

    const TEXT: &str = "# event histogram
#
# trigger info: hist:keys=common_pid:vals=hitcount:sort=hitcount:size=2048 [active]
#

{ common_pid:        101 } hitcount:          2
{ common_pid:        103 } hitcount:       4096

Totals:
    Hits: 4098
    Entries: 2
    Dropped: 0
";

    #[test]
    fn hits_are_counted_by_thread() {
        let hits = hits(TEXT).expect("it adds up");
        assert_eq!(
            hits.into_iter().collect::<Vec<_>>(),
            [(101, 2), (103, 4096)]
        );
    }

    #[test]
    fn a_histogram_with_losses_is_refused() {
        assert!(hits(&TEXT.replace("Dropped: 0", "Dropped: 1")).is_err());
        assert!(hits(&TEXT.replace("4098", "4099")).is_err());
        assert!(hits("").is_err());
    }
}
