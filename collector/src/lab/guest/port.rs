//! The port through which the lab sends messages to the host: QEMU's virtio port, or Bochs'
//! parallel port.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Read as _, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use super::parallel::Parallel;
use crate::lab::job::{self, ACKNOWLEDGED, Message, PORT, Stage};

/// The kernel's list of virtio ports.
const PORTS: &str = "/sys/class/virtio-ports";
/// Time limit for the port to appear.
const PORT_LIMIT: Duration = Duration::from_secs(30);
/// The largest write that virtio_console sends in one piece.
const PIECE: usize = 32 << 10;

/// The lab's port; clones share it.
#[derive(Clone, Debug)]
pub struct Port(Arc<Mutex<Device>>);

#[derive(Debug)]
enum Device {
    Virtio(File),
    Parallel(Parallel),
}

impl Device {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Device::Virtio(file) => file,
            Device::Parallel(parallel) => parallel,
        }
    }
}

impl Port {
    /// Opens it.
    pub fn open(kind: job::Port) -> anyhow::Result<Self> {
        let device = match kind {
            job::Port::Virtio => Device::Virtio(virtio()?),
            job::Port::Parallel => Device::Parallel(Parallel),
        };
        Ok(Self(Arc::new(Mutex::new(device))))
    }

    /// Sends a message.
    pub fn send(&self, message: &Message) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.writer()
            .write_all(&line)
            .context("while sending a message")
    }

    /// Reports that a stage begins.
    pub fn stage(&self, stage: Stage) -> anyhow::Result<()> {
        self.send(&Message::Stage(stage))
    }

    /// Waits until the host has received everything.
    pub fn wait_for_acknowledgement(&self) -> anyhow::Result<()> {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Device::Virtio(port) = &mut *port else {
            // A byte is with the host when it is written.
            return Ok(());
        };
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

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut port = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.writer().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits for the virtio port to appear.
fn virtio() -> anyhow::Result<File> {
    let begin = Instant::now();
    loop {
        if let Some(path) = find() {
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .with_context(|| format!("while opening {}", path.display()));
        }
        if begin.elapsed() > PORT_LIMIT {
            bail!("there is no port {PORT} in {PORTS}");
        }
        thread::sleep(Duration::from_millis(10));
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
