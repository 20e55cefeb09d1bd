//! The table of symbols of an ELF file.

use std::fs::File;

use events::Gva;
use object::{
    Endianness, ReadCache,
    elf::{FileHeader64, SHF_EXECINSTR, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE},
    read::elf::{FileHeader as _, SectionHeader as _, Sym as _},
};

use super::table::Symbol;

/// Functions of a 64-bit ELF file. Only its tables are read: a kernel with its debug information
/// may be larger than memory.
pub(super) fn read(file: File) -> Result<Vec<Symbol>, object::Error> {
    let data = &ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let table = sections.symbols(endian, data, object::elf::SHT_SYMTAB)?;
    let mut symbols = Vec::new();
    for symbol in table.iter() {
        let is_code = match symbol.st_type() {
            STT_FUNC | STT_GNU_IFUNC => true,
            // Labels of assembly have no type.
            STT_NOTYPE => {
                let section =
                    sections.section(object::SectionIndex(symbol.st_shndx(endian).into()));
                section
                    .is_ok_and(|section| section.sh_flags(endian) & u64::from(SHF_EXECINSTR) != 0)
            }
            _ => continue,
        };
        if symbol.is_undefined(endian) || !is_code {
            continue;
        }
        let name = String::from_utf8_lossy(symbol.name(endian, table.strings())?);
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
