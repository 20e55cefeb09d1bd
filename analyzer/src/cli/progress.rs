//! Progress of work that takes over a second.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr, after a second of work and only on a terminal.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    total: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// For `total` records.
    pub fn new(total: u64) -> Self {
        Self {
            begun: Instant::now(),
            total,
            bar: None,
        }
    }

    /// This many records are done.
    pub fn at(&mut self, done: u64) {
        if self.bar.is_none() && self.begun.elapsed() > Duration::from_secs(1) {
            let bar = ProgressBar::with_draw_target(Some(self.total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{bar:30} {human_pos} of {human_len} records, {eta} left",
            );
            if let Ok(style) = style {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
