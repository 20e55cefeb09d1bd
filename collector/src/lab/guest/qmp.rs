//! The part of QEMU's machine protocol (QMP) that the lab needs: one command at a time, and events.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// A connection after QEMU's greeting.
#[derive(Debug)]
pub struct Qmp {
    from: BufReader<UnixStream>,
    events: VecDeque<String>,
}

impl Qmp {
    /// Waits for the greeting.
    pub fn open(stream: UnixStream) -> anyhow::Result<Self> {
        let mut qmp = Self {
            from: BufReader::new(stream),
            events: VecDeque::new(),
        };
        let greeting = qmp.next()?;
        if greeting["QMP"].is_null() {
            bail!("QEMU did not send a QMP greeting but {greeting}");
        }
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// Runs a command without arguments; the value that it returns.
    pub fn execute(&mut self, command: &str) -> anyhow::Result<Value> {
        let line = format!("{}\n", json!({ "execute": command }));
        self.from
            .get_mut()
            .write_all(line.as_bytes())
            .with_context(|| format!("while sending QEMU the command {command}"))?;
        loop {
            let mut answer = self.next()?;
            if let Some(event) = answer["event"].as_str() {
                self.events.push_back(event.to_owned());
            } else if answer["error"].is_null() {
                return Ok(answer["return"].take());
            } else {
                bail!("QEMU refused the command {command}: {}", answer["error"]);
            }
        }
    }

    /// Waits for the next event.
    pub fn event(&mut self) -> anyhow::Result<String> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        loop {
            if let Some(event) = self.next()?["event"].as_str() {
                return Ok(event.to_owned());
            }
        }
    }

    fn next(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.from
            .read_line(&mut line)
            .context("while reading from QEMU")?;
        if line.is_empty() {
            bail!("QEMU has closed the connection");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU sent {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn events_between_a_command_and_its_answer_are_kept() {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        let script = concat!(
            "{\"QMP\": {}}\n",
            "{\"return\": {}}\n",
            "{\"event\": \"RESUME\"}\n",
            "{\"return\": {\"status\": \"running\"}}\n",
            "{\"event\": \"SHUTDOWN\"}\n",
            "{\"error\": {\"class\": \"GenericError\"}}\n",
        );
        let qemu = thread::spawn(move || {
            there.write_all(script.as_bytes()).expect("written");
            // Commands are read until the other end closes the connection.
            std::io::copy(&mut there, &mut std::io::sink()).expect("read");
        });
        let mut qmp = Qmp::open(here).expect("a greeting");
        let status = qmp.execute("query-status").expect("an answer");
        assert_eq!(status["status"], "running");
        assert_eq!(qmp.event().expect("an event"), "RESUME");
        assert_eq!(qmp.event().expect("an event"), "SHUTDOWN");
        assert!(qmp.execute("quit").is_err());
        drop(qmp);
        qemu.join().expect("no panic");
    }
}
