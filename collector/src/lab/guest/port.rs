//! The virtio port through which the lab sends messages to the host.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Read as _, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::lab::job::{ACKNOWLEDGED, Message, PORT, Stage};

/// The kernel's list of virtio ports.
const PORTS: &str = "/sys/class/virtio-ports";
/// Time limit for the port to appear.
const PORT_LIMIT: Duration = Duration::from_secs(30);
/// The largest write that virtio_console sends in one piece.
const PIECE: usize = 32 << 10;

/// The lab's port; clones share it.
#[derive(Clone, Debug)]
pub struct Port(Arc<Mutex<File>>);

impl Port {
    /// Waits for it to appear.
    pub fn open() -> anyhow::Result<Self> {
        let begin = Instant::now();
        loop {
            if let Some(path) = find() {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .with_context(|| format!("while opening {}", path.display()))?;
                return Ok(Self(Arc::new(Mutex::new(file))));
            }
            if begin.elapsed() > PORT_LIMIT {
                bail!("there is no port {PORT} in {PORTS}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a message.
    pub fn send(&self, message: &Message) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(&line).context("while sending a message")
    }

    /// Reports that a stage begins.
    pub fn stage(&self, stage: Stage) -> anyhow::Result<()> {
        self.send(&Message::Stage(stage))
    }

    /// Waits until the host has received everything.
    pub fn wait_for_acknowledgement(&self) -> anyhow::Result<()> {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = [0];
        port.read_exact(&mut answer)
            .context("while waiting for the host's acknowledgement")?;
        ensure!(
            answer == [ACKNOWLEDGED],
            "the host sent {answer:?} instead of its acknowledgement"
        );
        Ok(())
    }

    /// For the results, after the last message.
    pub fn writer(&self) -> BufWriter<Writer<'_>> {
        BufWriter::with_capacity(PIECE, Writer(self))
    }
}

/// Writes bytes to the port as they are.
#[derive(Debug)]
pub struct Writer<'a>(&'a Port);

impl std::io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut port = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The device of the lab's port. It appears some time after the driver is loaded: a directory or a
/// name that does not exist yet is not an error.
fn find() -> Option<PathBuf> {
    let port = fs::read_dir(PORTS).ok()?.flatten().find(|port| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT)
    })?;
    let device = PathBuf::from("/dev").join(port.file_name());
    device.exists().then_some(device)
}
