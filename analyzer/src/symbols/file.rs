//! A file of symbols, whatever its format.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    path::Path,
};

use super::{
    Symbols, SymbolsError, elf,
    listing::{self, Refused},
    offset::LINKED,
    table::Symbol,
};
use crate::text::plain;

/// Largest list read: a kernel's with all its modules is 20 MiB.
pub(super) const LARGEST: u64 = 256 << 20;
/// Longest name read, bytes: KSYM_NAME_LEN is 512, names of C++ and Rust are a few times as long.
pub(super) const LONGEST: usize = 4096;
const ELF: &[u8] = b"\x7fELF";
const GZIP: &[u8] = b"\x1f\x8b";
/// Where a compressed kernel image (bzImage) has its magic number.
const BZIMAGE: (usize, &[u8]) = (0x202, b"HdrS");

const HINT: &str = "give an ELF file with its table of symbols (vmlinux), or text: the guest's \
                    /proc/kallsyms, System.map or the output of `nm -S`";
const REAL: &str = "that package is large; the guest's own /proc/kallsyms, read as root, serves \
                    as well";
const STRIPPED: &str = "it was stripped, or is no program: give one with its table of symbols";

/// Reads a file of symbols. Its format is found by its contents.
pub fn read(path: &Path) -> Result<Symbols, SymbolsError> {
    let failed = |source| SymbolsError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    file.by_ref()
        .take(0x210)
        .read_to_end(&mut head)
        .map_err(failed)?;
    file.rewind().map_err(failed)?;
    if head.starts_with(ELF) {
        let symbols = elf::read(file).map_err(|why| format(path, why, HINT))?;
        return usable(path, symbols, false);
    }
    if let Some((why, hint)) = unusable(&head) {
        return Err(format(path, why.to_owned(), hint));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        let why = format!("it is larger than {} MiB", LARGEST >> 20);
        return Err(format(path, why, HINT));
    }
    list(path, bytes)
}

/// Reads a list of symbols, whoever made it; `path` is for errors.
pub fn list(path: &Path, bytes: Vec<u8>) -> Result<Symbols, SymbolsError> {
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(format(path, "it is no text".to_owned(), HINT));
    };
    let listed = listing::parse(&text).map_err(|refused| refusal(path, &refused))?;
    let has_addresses = listed.symbols.iter().any(|symbol| symbol.at.0 != 0);
    if !listed.symbols.is_empty() && !has_addresses {
        return Err(SymbolsError::Hidden {
            path: path.to_owned(),
        });
    }
    usable(path, listed.symbols, listed.has_modules)
}

fn format(path: &Path, why: String, hint: &'static str) -> SymbolsError {
    SymbolsError::Format {
        path: path.to_owned(),
        why,
        hint,
    }
}

/// Files that are often given instead: what they are, and what to do.
fn unusable(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let (at, magic) = BZIMAGE;
    if head.get(at..).is_some_and(|at| at.starts_with(magic)) {
        return Some(("a compressed kernel image has none", HINT));
    }
    let is_packed = head.starts_with(GZIP);
    is_packed.then_some(("it is compressed", "unpack it first: gunzip"))
}

/// Lines come from a file that may be anybody's.
fn refusal(path: &Path, refused: &Refused) -> SymbolsError {
    match refused {
        Refused::Line(number, line) => {
            let why = format!("line {number} is no symbol: {}", plain(line));
            format(path, why, HINT)
        }
        Refused::Name(number) => {
            let why = format!("the name in line {number} is longer than {LONGEST} bytes");
            format(path, why, HINT)
        }
        Refused::Stub(line) => format(path, format!("it only says: {}", plain(line)), REAL),
    }
}

fn usable(path: &Path, symbols: Vec<Symbol>, has_modules: bool) -> Result<Symbols, SymbolsError> {
    let mut named = symbols.iter().filter(|symbol| symbol.name == "_text");
    let is_moved = named.any(|symbol| symbol.at != LINKED);
    let symbols = Symbols::new(symbols, has_modules || is_moved);
    match symbols.is_empty() {
        false => Ok(symbols),
        true => Err(SymbolsError::NoFunction {
            path: path.to_owned(),
            hint: STRIPPED,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let list = list(Path::new("symbols.txt"), text.into());
        list.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn lists_of_strangers_are_refused_without_their_control_characters() {
        let error = refused("10 T a\nhello\u{1b}[2J\n");
        assert!(
            error.contains("line 2 is no symbol: hello\u{fffd}[2J"),
            "{error}"
        );
        let long = "a".repeat(LONGEST + 1);
        let error = refused(&format!("10 T {long}\n"));
        assert!(error.contains("the name in line 1 is longer"), "{error}");
        assert!(refused("\u{7f}ELF").contains("line 1"));
    }
}
