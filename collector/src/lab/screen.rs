//! What the lab prints: progress, its console, the output of the command that runs in it.
//!
//! A thread of its own prints. Whoever should read may not: then the lab goes on and its results
//! arrive, until so much waits to be printed that the command in the lab must wait, too. Nobody who
//! must notice the time limit or Ctrl-C ever waits for the terminal.

use std::{
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    Options, Work,
    conversation::Listener,
    deadline::{Stop, Stopped},
    doing,
    job::Stage,
};
use crate::{program, terminal};

/// Bytes that may wait to be printed: one message more than that are kept at most.
const WAITING_BYTES: usize = 32 << 20;
/// How soon room, the end of all printing, or that the lab must end is noticed.
const POLL: Duration = Duration::from_millis(10);
/// When the lab must end, what waits is given up if nothing was printed for so long.
const STUCK: Duration = Duration::from_millis(300);

/// What is to be printed.
enum Said {
    Stage(Stage),
    Stdout(String),
    Stderr(String),
    Console(String),
}

impl Said {
    fn bytes(&self) -> usize {
        match self {
            Said::Stage(_) => 0,
            Said::Stdout(text) | Said::Stderr(text) | Said::Console(text) => text.len(),
        }
    }
}

/// Takes what is to be printed.
#[derive(Clone)]
struct Line {
    to: Sender<Said>,
    waiting: Arc<AtomicUsize>,
    stop: Arc<Stop>,
}

impl Line {
    /// Hands it to the printer, once there is room.
    fn say(&self, said: Said) -> io::Result<()> {
        while self.waiting.load(Ordering::Acquire) >= WAITING_BYTES {
            if let Some(why) = self.stop.why() {
                return Err(unread(why));
            }
            thread::sleep(POLL);
        }
        self.waiting.fetch_add(said.bytes(), Ordering::AcqRel);
        self.to
            .send(said)
            .map_err(|_| io::Error::other("the thread that prints has ended"))
    }
}

fn unread(why: Stopped) -> io::Error {
    io::Error::other(match why {
        Stopped::Interrupted => "interrupted before somebody read all of it",
        Stopped::Late => "nobody read all of it within the time limit",
    })
}

/// Progress on the terminal, and the output of the command that runs in the lab.
pub struct Screen {
    /// The last stage.
    pub stage: Stage,
    line: Line,
    printer: JoinHandle<io::Result<()>>,
}

impl Screen {
    /// Begins with the first stage.
    pub fn start(kernel: &str, options: &Options, stop: Arc<Stop>) -> io::Result<Self> {
        let (to, from) = mpsc::channel();
        let waiting = Arc::<AtomicUsize>::default();
        let mut printer = Printer {
            bar: ProgressBar::new_spinner(),
            kernel: kernel.to_owned(),
            began: options.verbose.then(Instant::now),
            work: match &options.work {
                Work::Command(words) => program::command(&words.join(" ")),
                Work::Linux(linux) if linux.nested.is_some() => {
                    "a guest of a Linux guest".to_owned()
                }
                Work::Linux(_) => "a Linux guest".to_owned(),
            },
            waiting: Arc::clone(&waiting),
            failed: None,
        };
        let printer = thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || printer.print(&from))?;
        let line = Line { to, waiting, stop };
        let stage = Stage::Boot;
        let mut screen = Self {
            stage,
            line,
            printer,
        };
        screen.stage(stage);
        Ok(screen)
    }

    /// Takes lines of the lab's console, to print them if `wanted`.
    pub fn console(&self, wanted: bool) -> impl Fn(&str) + Clone + Send + 'static + use<> {
        let line = wanted.then(|| self.line.clone());
        move |text| {
            if let Some(line) = &line {
                // What is not shown is no error of the lab.
                let _ = line.say(Said::Console(text.to_owned()));
            }
        }
    }

    /// Waits until all is printed, or cannot be: why it was not.
    pub fn finish(self) -> io::Result<()> {
        let Line { to, waiting, stop } = self.line;
        drop(to);
        let (mut left, mut since) = (waiting.load(Ordering::Acquire), Instant::now());
        while !self.printer.is_finished() {
            let now = waiting.load(Ordering::Acquire);
            if now != left {
                (left, since) = (now, Instant::now());
            }
            match stop.why() {
                // The thread ends with the program.
                Some(why) if since.elapsed() >= STUCK => return Err(unread(why)),
                _ => thread::sleep(POLL),
            }
        }
        self.printer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Listener for Screen {
    fn stage(&mut self, stage: Stage) {
        self.stage = stage;
        // Progress that is not shown is no error of the lab.
        let _ = self.line.say(Said::Stage(stage));
    }

    fn stdout(&mut self, text: &str) -> io::Result<()> {
        self.line.say(Said::Stdout(text.to_owned()))
    }

    fn stderr(&mut self, text: &str) -> io::Result<()> {
        self.line.say(Said::Stderr(text.to_owned()))
    }
}

/// The thread that prints.
struct Printer {
    bar: ProgressBar,
    kernel: String,
    work: String,
    /// When the lab began, if each stage is printed.
    began: Option<Instant>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    /// The first error of the command's output.
    failed: Option<io::Error>,
}

impl Printer {
    /// Prints until nobody can say anything more. An output that cannot be written ends nothing:
    /// the lab's results are still to come.
    fn print(&mut self, from: &Receiver<Said>) -> io::Result<()> {
        self.bar.set_style(ProgressStyle::default_spinner());
        self.bar.enable_steady_tick(Duration::from_millis(100));
        for said in from {
            let bytes = said.bytes();
            let written = match said {
                Said::Stage(stage) => {
                    self.stage(stage);
                    Ok(())
                }
                Said::Console(line) => {
                    self.bar
                        .suspend(|| terminal::say(format_args!("lab: {line}")));
                    Ok(())
                }
                Said::Stdout(text) => self.bar.suspend(|| {
                    let mut out = io::stdout().lock();
                    out.write_all(text.as_bytes())?;
                    out.flush()
                }),
                Said::Stderr(text) => self
                    .bar
                    .suspend(|| io::stderr().lock().write_all(text.as_bytes())),
            };
            self.waiting.fetch_sub(bytes, Ordering::AcqRel);
            self.failed = self.failed.take().or(written.err());
        }
        self.bar.finish_and_clear();
        self.failed.take().map_or(Ok(()), Err)
    }

    fn stage(&self, stage: Stage) {
        let what = match stage {
            Stage::Boot => format!("Linux {}", self.kernel),
            Stage::Command => self.work.clone(),
            _ => String::new(),
        };
        let message = format!("lab: {} {what}", doing(stage));
        if let Some(began) = self.began {
            let seconds = began.elapsed().as_secs();
            self.bar.suspend(|| {
                terminal::say(format_args!("{} (after {seconds} s)", message.trim_end()))
            });
        }
        self.bar.set_message(message);
    }
}
