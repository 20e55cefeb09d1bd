//! One session of measuring: its progress, and its end on Ctrl-C.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, ensure};

use crate::signals;

/// Set by Ctrl-C: the current run is the last one, and what it changed is restored.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Ends the session after the current run.
pub fn end_on_ctrl_c() -> anyhow::Result<()> {
    let interrupted = signals::cancel().context("while watching for Ctrl-C")?;
    INTERRUPTED.get_or_init(|| interrupted);
    Ok(())
}

/// Fails after Ctrl-C; called between two runs.
pub fn go_on() -> anyhow::Result<()> {
    let interrupted = INTERRUPTED.get();
    let is_set = interrupted.is_some_and(|flag| flag.load(Ordering::Acquire));
    ensure!(!is_set, "interrupted");
    Ok(())
}

/// Prints what is measured next.
pub fn progress(doing: &str) {
    eprintln!("{doing} ...");
}
