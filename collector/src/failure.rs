//! A command that failed: the exit code, what happened, and what to do.

use std::{fmt::Display, io, process::ExitCode};

use crate::terminal;

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
        for error in [self.error].iter().chain(&self.also) {
            terminal::say(terminal::message("error", &format!("{error:#}")));
        }
        if let Some(hint) = self.hint {
            terminal::say(terminal::message("hint", &hint));
        }
        self.code.into()
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}
