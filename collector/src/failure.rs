//! A command that failed: the exit code, what happened, and what to do.

use std::{fmt::Display, io, process::ExitCode, sync::mpsc, thread, time::Duration};

use crate::{signals, terminal};

/// How long the last words may wait for a reader after Ctrl-C.
const READ: Duration = Duration::from_secs(1);

/// The exit codes of commands that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The work failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// This host cannot do it.
    Host = 3,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// An error with its causes, on a line; aya keeps the verifier's words in the innermost.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = anyhow::Chain::new(error).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}

/// An error that ends the command, with what to do about it.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    error: anyhow::Error,
    hint: Option<String>,
    also: Vec<anyhow::Error>,
}

impl Failure {
    /// The work failed.
    pub fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: Code::Failed,
            error: error.into(),
            hint: None,
            also: Vec::new(),
        }
    }

    /// The command line is wrong.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: Code::Usage,
            ..Self::failed(error)
        }
    }

    /// This host cannot do it.
    pub fn host(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: Code::Host,
            ..Self::failed(error)
        }
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds another error that happened on the way.
    pub fn also(mut self, error: Option<anyhow::Error>) -> Self {
        self.also.extend(error);
        self
    }

    /// Prints to standard error and returns the exit code.
    pub fn report(self) -> ExitCode {
        if let Some(error) = self.error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // The reader of the output (`head`) closed it on purpose.
            return ExitCode::SUCCESS;
        }
        let errors = [self.error].into_iter().chain(self.also);
        let mut lines: Vec<_> = errors
            .map(|error| terminal::message("error", &format!("{error:#}")))
            .collect();
        lines.extend(self.hint.map(|hint| terminal::message("hint", &hint)));
        last_words(lines.join("\n"));
        self.code.into()
    }
}

/// Says why the program ends. Standard error may be a pipe that is full, and nobody reads: then
/// Ctrl-C ends the program, also one that came before.
fn last_words(text: String) {
    if let Err(error) = signals::restore() {
        terminal::say(format_args!(
            "while giving Ctrl-C its meaning back: {error}"
        ));
    }
    if !signals::came() {
        return terminal::say(text);
    }
    let (said, heard) = mpsc::channel();
    let words = text.clone();
    let printer = thread::Builder::new().spawn(move || {
        terminal::say(words);
        // Nobody waits for it any more.
        let _ = said.send(());
    });
    match printer {
        // It fails if nobody reads; all else is done.
        Ok(_) => drop(heard.recv_timeout(READ)),
        Err(_) => terminal::say(text),
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}
