//! What ends a recording that keeps its last part: `--on`.
//!
//! An event ends the recording: one event, one trace, and nothing that a second one could push out.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use trace::Event;

use crate::{
    record::{Keep, Keeper, On},
    recording::{self, Recording},
    signals, terminal,
};

/// Watches for SIGUSR1, if that is asked for: from the beginning on, since a watchdog does not know
/// when the probes are loaded.
pub fn on_signal(keep: Option<&Keep>) -> anyhow::Result<bool> {
    let wanted = keep.is_some_and(|keep| keep.on.contains(&On::Signal));
    if wanted {
        signals::note_usr1().context("while watching for SIGUSR1")?;
    }
    Ok(wanted)
}

/// Adds what came to the metadata. From here on the beginning of the trace stays what it is.
pub fn note(recording: &Recording) -> anyhow::Result<()> {
    let Some(keeper) = &recording.keeper else {
        return Ok(());
    };
    keeper.end();
    let event = keeper.event();
    let after = event
        .as_ref()
        .map(|event| recording::now_ns().saturating_sub(event.time_ns));
    if let Some(after) = after.map(Duration::from_nanos)
        && keeper.is_full()
        && after < keeper.after()
    {
        terminal::say(format_args!(
            "recorded on for {:.1} s after the event, not for {:.1} s: more would have pushed out what \
             was before it. --keep-mib holds more.",
            after.as_secs_f64(),
            keeper.after().as_secs_f64()
        ));
    }
    Ok(recording.meta_file.keep(|kept| {
        kept.after_ns = after.unwrap_or(kept.after_ns);
        kept.event = event;
    })?)
}

/// Follows what happens to a recording.
#[derive(Debug)]
pub struct Events<'a> {
    keeper: Option<&'a Keeper>,
    signal: bool,
    /// When the recording ends.
    end: Option<Instant>,
}

impl<'a> Events<'a> {
    /// Of a recording; `signal`: SIGUSR1 is an event.
    pub fn new(keeper: Option<&'a Keeper>, signal: bool) -> Self {
        Self {
            keeper,
            signal,
            end: None,
        }
    }

    /// A new section of the ring must begin.
    pub fn is_section_full(&self) -> bool {
        self.keeper.is_some_and(Keeper::is_section_full)
    }

    /// An event came, and the time after it has passed, or no more can be kept.
    pub fn are_over(&mut self) -> bool {
        let Some(keeper) = self.keeper else {
            return false;
        };
        if self.signal && signals::usr1_came() {
            keeper.happened(Event {
                on: On::Signal.name().to_owned(),
                time_ns: recording::now_ns(),
                what: "SIGUSR1".to_owned(),
                ..Event::default()
            });
        }
        if self.end.is_none() && keeper.event().is_some() {
            self.end = Some(Instant::now() + keeper.after());
        }
        self.end.is_some_and(|end| Instant::now() >= end) || keeper.is_full()
    }
}
