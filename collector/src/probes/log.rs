//! The probes' own diagnostics (aya-log), printed to stderr with `-v`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use aya_log::EbpfLogger;
use log::{LevelFilter, Log};

use super::Probes;

/// How often the log is read.
const PERIOD: Duration = Duration::from_millis(50);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("the probes' log: {0}")]
pub struct LogError(String);

/// The log of attached probes.
pub struct ProbeLog {
    logger: EbpfLogger<&'static dyn Log>,
}

/// The log being printed; dropping it prints the rest and ends.
#[derive(Debug)]
pub struct Printing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ProbeLog {
    /// Takes the log; call before the probes are attached, print with [`ProbeLog::start`].
    pub fn new(probes: &mut Probes) -> Result<Self, LogError> {
        env_logger::Builder::new()
            .filter_level(LevelFilter::Debug)
            .try_init()
            .map_err(|error| LogError(error.to_string()))?;
        let logger =
            EbpfLogger::init(probes.ebpf_mut()).map_err(|error| LogError(error.to_string()))?;
        Ok(Self { logger })
    }

    /// Prints from now on.
    pub fn start(mut self) -> std::io::Result<Printing> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                loop {
                    let last = stopping.load(Ordering::Acquire);
                    self.logger.flush();
                    if last {
                        return;
                    }
                    thread::sleep(PERIOD);
                }
            })?;
        Ok(Printing {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It only prints: if it panicked, nothing else is lost.
            let _ = thread.join();
        }
    }
}
