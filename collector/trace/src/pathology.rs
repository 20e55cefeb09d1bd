//! Pathologies that both programs look for, by one name and one limit: the recorder, to keep what is
//! around one, and the analyzer.

/// The same fault again and again.
pub const LIVE_LOCK: &str = "live_lock";
/// One act zaps many shadow pages of a VM that runs on.
pub const ZAP_STORM: &str = "zap_storm";

/// Equal faults of a vCPU in a row: a retry for the host's act ends with it, and takes a few.
pub const REPEATS: u64 = 16;
/// Pages that one act zaps to be a storm: two thirds of what one recycling frees at most
/// (`KVM_REFILL_PAGES`, 25), so that a recycling which finds some pages free counts, too.
pub const STORM_PAGES: u32 = 16;
/// Fewer are a storm if they are half of all pages, but not below this: one path from a root to a
/// leaf.
pub const STORM_LEAST: u32 = 4;
/// A zap that comes later than this after the one before, ns, is not of the same act: no record says
/// where an act ends of a thread that takes no faults.
pub const STORM_PAUSE_NS: u64 = 100_000_000;

/// Whether an act is a storm that zapped so many pages, of those that there were.
pub const fn is_storm(zapped: u32, of_pages: u64) -> bool {
    zapped >= STORM_PAGES || (zapped >= STORM_LEAST && zapped as u64 * 2 >= of_pages)
}

#[cfg(test)]
mod tests {
    use super::is_storm;

    #[test]
    fn many_pages_or_half_of_all_are_a_storm() {
        assert!(is_storm(16, 1000) && !is_storm(15, 1000));
        assert!(is_storm(4, 8) && !is_storm(4, 9) && !is_storm(3, 3));
    }
}
