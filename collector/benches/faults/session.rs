//! One session of measuring: its progress, and its end on Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};

/// Set by Ctrl-C: the current run is the last one, and what it changed is restored.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends the session after the current run.
pub fn end_on_ctrl_c() -> anyhow::Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Release))
        .context("while watching for Ctrl-C")
}

/// Fails after Ctrl-C; called between two runs.
pub fn go_on() -> anyhow::Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Acquire), "interrupted");
    Ok(())
}

/// Prints what is measured next.
pub fn progress(doing: &str) {
    eprintln!("{doing} ...");
}
