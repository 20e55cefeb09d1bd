//! A step of the plan: its hooks, and what it shows.

use std::fmt;

use super::KernelTypes;

/// A place in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A raw tracepoint.
    Tracepoint(&'static str),
    /// A function is called.
    Entry(&'static str),
    /// A function returns.
    Return(&'static str),
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hook::Tracepoint(name) => write!(f, "raw tracepoint {name}"),
            Hook::Entry(name) => write!(f, "kprobe {name}"),
            Hook::Return(name) => write!(f, "kretprobe {name}"),
        }
    }
}

/// A program and its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the program.
    pub program: &'static str,
    /// Its place.
    pub hook: Hook,
    /// The arguments that it reads, by position. Of a function their names, `""` for one that it
    /// does not read; of a tracepoint only their number is checked.
    pub reads: &'static [&'static str],
}

impl Attachment {
    /// Whether this kernel has the hook, with the arguments that the program reads; else why not.
    pub fn fits(&self, types: &KernelTypes) -> Result<(), String> {
        match self.hook {
            Hook::Tracepoint(name) => match types.tracepoint(name) {
                None => Err("this kernel has no such tracepoint".to_owned()),
                Some(arguments) if arguments < self.reads.len() => Err(format!(
                    "the tracepoint has {arguments} arguments, {} are read",
                    self.reads.len()
                )),
                Some(_) => Ok(()),
            },
            Hook::Entry(name) | Hook::Return(name) => {
                let function = types
                    .function(name)
                    .ok_or("this kernel has no such function")?;
                let moved = (0..).zip(self.reads).find(|(number, parameter)| {
                    !parameter.is_empty() && function.argument(parameter) != Some(*number)
                });
                match moved {
                    Some((number, parameter)) => Err(format!(
                        "the function's argument {number} is not `{parameter}`"
                    )),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Everything that must be attached together to see a step.
pub type Candidate = &'static [Attachment];

/// Hosts on which a step is not seen although the hook is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// None.
    Nowhere,
    /// KVM-PVM enters and leaves the guest without it.
    OnPvm,
}

/// A step of a fault or a kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Name, after the kernel's.
    pub name: &'static str,
    /// Ways to see it, the best first.
    pub candidates: &'static [Candidate],
    /// Without it nothing useful is recorded.
    pub required: bool,
    /// What it shows.
    pub shows: &'static str,
    /// What the results lack without it.
    without: &'static str,
    /// The same, where no function can be hooked that stores entries ([`super::plan::EVERY_CHANGE`]): entries
    /// are read again instead.
    without_functions: Option<&'static str>,
    /// Columns of `faults` that only this step fills.
    pub columns: &'static [&'static str],
    /// Hosts on which it is not seen.
    pub silent: Silent,
}

pub const fn tracepoint(name: &'static str, reads: &'static [&'static str]) -> Attachment {
    Attachment {
        program: name,
        hook: Hook::Tracepoint(name),
        reads,
    }
}

pub const fn entry(
    program: &'static str,
    function: &'static str,
    reads: &'static [&'static str],
) -> Attachment {
    Attachment {
        program,
        hook: Hook::Entry(function),
        reads,
    }
}

pub const fn ret(program: &'static str, function: &'static str) -> Attachment {
    Attachment {
        program,
        hook: Hook::Return(function),
        reads: &[],
    }
}

pub const fn required(
    name: &'static str,
    candidates: &'static [Candidate],
    shows: &'static str,
    without: &'static str,
) -> Step {
    Step {
        name,
        candidates,
        required: true,
        shows,
        without,
        without_functions: None,
        columns: &[],
        silent: Silent::Nowhere,
    }
}

pub const fn optional(
    name: &'static str,
    candidates: &'static [Candidate],
    shows: &'static str,
    without: &'static str,
) -> Step {
    Step {
        required: false,
        ..required(name, candidates, shows, without)
    }
}

impl Step {
    /// What the results lack without it, by whether [`super::plan::EVERY_CHANGE`] is attached.
    pub fn without(&self, sees_every_change: bool) -> &'static str {
        let unhooked = self.without_functions.filter(|_| !sees_every_change);
        unhooked.unwrap_or(self.without)
    }

    pub const fn without_functions(self, text: &'static str) -> Self {
        Self {
            without_functions: Some(text),
            ..self
        }
    }

    pub const fn fills(self, columns: &'static [&'static str]) -> Self {
        Self { columns, ..self }
    }

    pub const fn silent_on_pvm(self) -> Self {
        Self {
            silent: Silent::OnPvm,
            ..self
        }
    }
}
