//! The table of symbols of an ELF file.

use std::fs::File;

use events::Gva;
use object::{
    Endianness, ReadCache,
    elf::{FileHeader64, SHF_EXECINSTR, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE},
    read::elf::{FileHeader as _, SectionHeader as _, Sym as _},
};

use super::{
    file::{LARGEST, LONGEST},
    table::Symbol,
};

/// Functions of a 64-bit ELF file, or why it has none. Only its tables are read: a kernel with its
/// debug information may be larger than memory.
pub(super) fn read(file: File) -> Result<Vec<Symbol>, String> {
    let data = &ReadCache::new(file);
    let words = |error: object::Error| error.to_string();
    let header = FileHeader64::<Endianness>::parse(data).map_err(words)?;
    let endian = header.endian().map_err(words)?;
    let sections = header.sections(endian, data).map_err(words)?;
    let table = sections.symbols(endian, data, object::elf::SHT_SYMTAB);
    let table = table.map_err(words)?;
    // The collector's own of this (run/symbols.rs) is of the built-in guest, which it trusts, and
    // of bytes in memory. No crate that both use reads ELF.
    let is_code = |section: u16| {
        let section = sections.section(object::SectionIndex(section.into()));
        section.is_ok_and(|section| section.sh_flags(endian) & u64::from(SHF_EXECINSTR) != 0)
    };
    let mut symbols = Vec::new();
    let mut names: u64 = 0;
    for symbol in table.iter() {
        let is_function = match symbol.st_type() {
            STT_FUNC | STT_GNU_IFUNC => true,
            // Labels of assembly have no type.
            STT_NOTYPE => is_code(symbol.st_shndx(endian)),
            _ => false,
        };
        if symbol.is_undefined(endian) || !is_function {
            continue;
        }
        let name = symbol.name(endian, table.strings()).map_err(words)?;
        // Symbols may share a name: together they can be longer than the file.
        names = names.saturating_add(name.len() as u64);
        if name.len() > LONGEST || names > LARGEST {
            return Err(format!(
                "a name is longer than {LONGEST} bytes, or all are longer than {} MiB",
                LARGEST >> 20
            ));
        }
        let name = String::from_utf8_lossy(name);
        let bytes = symbol.st_size(endian);
        symbols.push(Symbol {
            at: Gva(symbol.st_value(endian)),
            bytes: (bytes > 0).then_some(bytes),
            is_function: !name.is_empty(),
            is_global: symbol.st_bind() != STB_LOCAL,
            name: name.into_owned(),
        });
    }
    Ok(symbols)
}
