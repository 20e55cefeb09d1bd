//! How a command ends badly: the exit code, what happened, and what to do.

use std::{fmt::Display, io, process::ExitCode};

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The work failed.
    Failed = 1,
    /// The command line asks for something that there is not.
    Usage = 2,
    /// This host cannot do it.
    Host = 3,
}

/// An error on its way to the person who typed the command.
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

    /// Prints to stderr and gives the exit code.
    pub fn report(self) -> ExitCode {
        if let Some(error) = self.error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever reads the output (`head`) has seen enough.
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {:#}", self.error);
        for error in self.also {
            eprintln!("error: {error:#}");
        }
        if let Some(hint) = self.hint {
            eprintln!("hint: {hint}");
        }
        ExitCode::from(self.code as u8)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}
