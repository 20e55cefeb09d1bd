//! Why a file gives no symbols.

use std::path::PathBuf;

use events::Gva;

/// Why a file gives no symbols.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SymbolsError {
    /// It cannot be read.
    #[error("while reading the symbols of {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It is neither ELF nor a list of symbols.
    #[error("{path} is no file of symbols: {why}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// Every address of it is 0.
    #[error("every address in {path} is 0: the guest's kernel hides them (kptr_restrict)")]
    Hidden {
        /// The file.
        path: PathBuf,
    },
    /// It has no function.
    #[error("{path} has no symbol of a function")]
    NoFunction {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// Where the kernel was loaded is not known.
    #[error(
        "where the guest's kernel was loaded is not known: the addresses in {path} are those it \
         was linked at, and {fitting} of the places where KASLR can move it agree with the \
         trace's {seen}"
    )]
    Offset {
        /// The file.
        path: PathBuf,
        /// Places that agree.
        fitting: u64,
        /// What the trace has, in words.
        seen: String,
        /// Where it was linked.
        linked: Gva,
    },
}

impl SymbolsError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::Format { hint, .. } | Self::NoFunction { hint, .. } => Some((*hint).to_owned()),
            Self::Hidden { .. } => Some(
                "read it as root, in the guest: sudo cat /proc/kallsyms > guest.kallsyms"
                    .to_owned(),
            ),
            Self::Offset { linked, .. } => Some(format!(
                "in the guest, as root: grep ' _text$' /proc/kallsyms; that address less {linked} \
                 is what --symbols-offset takes (0x0 with nokaslr); or give /proc/kallsyms itself"
            )),
        }
    }
}
