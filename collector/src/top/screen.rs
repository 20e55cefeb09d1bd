//! Where looks are shown: a terminal that may be slow or stopped and may change its size, or a log.
//!
//! The terminal is opened anew so that it can be written to without waiting: what it does not take
//! waits here, and the next look replaces what has not begun to be written.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, IsTerminal as _, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

use super::{frame::Frame, lines::Lines};

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the top left; to the end of a line; to the end of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";
/// How long a terminal that takes nothing is waited for at the end.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(10);

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// More.
    Stay,
    /// The key q, or nobody reads any more.
    Quit,
}

/// Where looks go.
#[derive(Debug)]
pub enum Output {
    /// A terminal.
    Screen(Screen),
    /// Lines for each look.
    Log(Lines),
    /// A JSON object for each look.
    Json(Lines),
}

impl Output {
    /// A screen if standard output is a terminal.
    pub fn open(json: bool) -> anyhow::Result<Self> {
        Ok(match (json, io::stdout().is_terminal()) {
            (true, _) => Self::Json(Lines::open()?),
            (false, false) => Self::Log(Lines::open()?),
            (false, true) => Self::Screen(Screen::open()?),
        })
    }

    /// A look can be shown now. A screen takes one at any time: the next replaces it.
    pub fn is_free(&self) -> bool {
        match self {
            Self::Screen(_) => true,
            Self::Log(lines) | Self::Json(lines) => lines.is_free(),
        }
    }

    /// Shows a look.
    pub fn show(&mut self, frame: &Frame) {
        match self {
            Self::Screen(screen) => screen.show(frame),
            Self::Log(lines) => lines.show(frame.log()),
            Self::Json(lines) => lines.show(format!("{}\n", frame.json())),
        }
    }

    /// Writes what the terminal takes now, and reads keys.
    pub fn work(&mut self) -> anyhow::Result<Wish> {
        match self {
            Self::Screen(screen) => screen.work(),
            Self::Log(lines) | Self::Json(lines) => Ok(lines.work()),
        }
    }

    /// Leaves the terminal as it was, and waits until lines are written: not long once `cancel` is
    /// set.
    pub fn close(self, cancel: &AtomicBool) -> anyhow::Result<()> {
        match self {
            Self::Screen(screen) => screen.close(),
            Self::Log(lines) | Self::Json(lines) => lines.close(cancel),
        }
    }
}

/// A terminal.
#[derive(Debug)]
pub struct Screen {
    terminal: File,
    before: Termios,
    /// What is being written.
    writing: Vec<u8>,
    /// What comes after that.
    next: Option<Frame>,
    /// Size of the last look: another one needs an empty screen.
    size: [usize; 2],
    left: bool,
}

impl Drop for Screen {
    /// After an error, which is what is reported.
    fn drop(&mut self) {
        if !self.left {
            let _ = self.leave();
        }
    }
}

impl Screen {
    fn open() -> anyhow::Result<Self> {
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open("/dev/tty")
            .context("while opening /dev/tty")?;
        let before = tcgetattr(&terminal).context("while asking the terminal for its modes")?;
        let mut modes = before.clone();
        // Keys come at once and are not shown; Ctrl-C is a signal still, Ctrl-Z is none: the
        // terminal would stay as it is here.
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
        tcsetattr(&terminal, OptionalActions::Now, &modes)
            .context("while setting the modes of the terminal")?;
        Ok(Self {
            terminal,
            before,
            writing: ENTER.as_bytes().to_vec(),
            next: None,
            size: [0; 2],
            left: false,
        })
    }

    fn show(&mut self, frame: &Frame) {
        self.next = Some(frame.clone());
    }

    /// Columns and rows as they are now.
    fn size(&self) -> [usize; 2] {
        let size = tcgetwinsize(&self.terminal);
        match size.map(|size| [size.ws_col, size.ws_row].map(usize::from)) {
            Ok([columns, rows]) if columns > 0 && rows > 0 => [columns, rows],
            // A terminal that does not say.
            _ => [80, 24],
        }
    }

    fn work(&mut self) -> anyhow::Result<Wish> {
        if self.writing.is_empty()
            && let Some(frame) = self.next.take()
        {
            self.draw(&frame);
        }
        self.write()?;
        self.keys()
    }

    fn draw(&mut self, frame: &Frame) {
        let size = self.size();
        let mut text = HOME.to_owned();
        if size != self.size {
            text += REST_OF_SCREEN;
            self.size = size;
        }
        let [columns, rows] = size;
        for (number, line) in frame.lines(columns, rows).iter().enumerate() {
            if number > 0 {
                text.push('\n');
            }
            text += line;
            text += REST_OF_LINE;
        }
        text += REST_OF_SCREEN;
        self.writing = text.into_bytes();
    }

    /// What the terminal takes now.
    fn write(&mut self) -> anyhow::Result<()> {
        while !self.writing.is_empty() {
            match self.terminal.write(&self.writing) {
                Ok(written) => drop(self.writing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("while writing to the terminal"),
            }
        }
        Ok(())
    }

    fn keys(&mut self) -> anyhow::Result<Wish> {
        let mut keys = [0; 64];
        match self.terminal.read(&mut keys) {
            Ok(read) if keys.iter().take(read).any(|key| matches!(key, b'q' | b'Q')) => {
                Ok(Wish::Quit)
            }
            Ok(_) => Ok(Wish::Stay),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(Wish::Stay)
            }
            Err(error) => Err(error).context("while reading keys"),
        }
    }

    fn close(mut self) -> anyhow::Result<()> {
        self.left = true;
        self.leave()
    }

    fn leave(&mut self) -> anyhow::Result<()> {
        self.next = None;
        self.writing.extend_from_slice(LEAVE.as_bytes());
        let end = Instant::now() + PATIENCE;
        let mut written = self.write();
        while written.is_ok() && !self.writing.is_empty() && Instant::now() < end {
            thread::sleep(PAUSE);
            written = self.write();
        }
        self.writing.clear();
        let restored = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        written.and(restored.context("while setting the modes of the terminal back"))
    }
}
