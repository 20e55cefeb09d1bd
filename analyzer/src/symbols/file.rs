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

/// Largest list read: a kernel's with all its modules is 20 MiB.
const LARGEST: u64 = 256 << 20;
const ELF: &[u8] = b"\x7fELF";
const GZIP: &[u8] = b"\x1f\x8b";
/// Where a compressed kernel image (bzImage) has its magic number.
const BZIMAGE: (usize, &[u8]) = (0x202, b"HdrS");

const HINT: &str = "give an ELF file with its table of symbols (vmlinux), or text: the guest's \
                    /proc/kallsyms, System.map or the output of `nm -S`";
const STRIPPED: &str = "it was stripped, or is no program: give one with its table of symbols";

/// Reads a file of symbols. Its format is found by its contents.
pub fn read(path: &Path) -> Result<Symbols, SymbolsError> {
    let failed = |source| SymbolsError::Read {
        path: path.to_owned(),
        source,
    };
    let format = |why: String, hint| SymbolsError::Format {
        path: path.to_owned(),
        why,
        hint,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    file.by_ref()
        .take(0x210)
        .read_to_end(&mut head)
        .map_err(failed)?;
    file.rewind().map_err(failed)?;
    if head.starts_with(ELF) {
        let symbols = elf::read(file).map_err(|error| format(format!("{error}"), HINT))?;
        return usable(path, symbols, false);
    }
    if head
        .get(BZIMAGE.0..)
        .is_some_and(|at| at.starts_with(BZIMAGE.1))
    {
        let why = "a compressed kernel image has none".to_owned();
        return Err(format(why, HINT));
    }
    if head.starts_with(GZIP) {
        return Err(format(
            "it is compressed".to_owned(),
            "unpack it first: gunzip",
        ));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format(
            format!("it is larger than {} MiB", LARGEST >> 20),
            HINT,
        ));
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(format("it is neither ELF nor text".to_owned(), HINT));
    };
    let listed = listing::parse(&text).map_err(|refused| match refused {
        Refused::Line(number, line) => format(format!("line {number} is no symbol: {line}"), HINT),
        Refused::Stub(line) => format(
            format!("it only says: {line}"),
            "that package is large; the guest's own /proc/kallsyms, read as root, serves as well",
        ),
    })?;
    let has_addresses = listed.symbols.iter().any(|symbol| symbol.at.0 != 0);
    if !listed.symbols.is_empty() && !has_addresses {
        return Err(SymbolsError::Hidden {
            path: path.to_owned(),
        });
    }
    usable(path, listed.symbols, listed.has_modules)
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
