//! The way out: a virtio port that the other side reads.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Read as _, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::lab::job::{HEARD, Message, PORT, Stage};

/// Where the kernel lists such ports.
const PORTS: &str = "/sys/class/virtio-ports";
/// How long one may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest write that virtio_console passes on in one piece.
const PIECE: usize = 32 << 10;

/// Our port; clones share it.
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
            if begin.elapsed() > PATIENCE {
                bail!("no port is called {PORT} in {PORTS}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Says something.
    pub fn send(&self, message: &Message) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(&line).context("while sending a message")
    }

    /// Says what is being done.
    pub fn stage(&self, stage: Stage) -> anyhow::Result<()> {
        self.send(&Message::Stage(stage))
    }

    /// Waits until the other side has heard everything.
    pub fn until_heard(&self) -> anyhow::Result<()> {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = [0];
        port.read_exact(&mut answer)
            .context("while waiting for the other side")?;
        ensure!(answer == [HEARD], "the other side said {answer:?}");
        Ok(())
    }

    /// For the results; no message may come after them.
    pub fn writer(&self) -> BufWriter<Writer<'_>> {
        BufWriter::with_capacity(PIECE, Writer(self))
    }
}

/// Bytes without meaning.
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

/// The device of the port that has our name. The kernel makes it a moment after the driver is
/// loaded, so a folder or a name that is not there yet is no error.
fn find() -> Option<PathBuf> {
    let port = fs::read_dir(PORTS).ok()?.flatten().find(|port| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT)
    })?;
    let device = PathBuf::from("/dev").join(port.file_name());
    device.exists().then_some(device)
}
