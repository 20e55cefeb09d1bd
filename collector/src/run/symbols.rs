//! Names of the built-in guest's functions, for the trace.

use std::fmt::Write as _;

use anyhow::Context as _;
use object::{
    Endianness, SectionIndex,
    elf::{FileHeader64, SHF_EXECINSTR, SHT_SYMTAB, STT_FUNC, STT_NOTYPE},
    read::elf::{FileHeader as _, SectionHeader as _, Sym as _},
};

/// The functions of an ELF image, as [`trace::SYMBOLS`] has them.
pub fn of_image(elf: &[u8]) -> anyhow::Result<String> {
    lines(elf).context("while reading the symbols of the guest's image")
}

fn lines(elf: &[u8]) -> anyhow::Result<String> {
    let header = FileHeader64::<Endianness>::parse(elf)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, elf)?;
    let table = sections.symbols(endian, elf, SHT_SYMTAB)?;
    // Functions of assembly have no type; only their section shows that they are code.
    let is_code = |section: u16| {
        let section = sections.section(SectionIndex(section.into()));
        section.is_ok_and(|section| section.sh_flags(endian) & u64::from(SHF_EXECINSTR) != 0)
    };
    let functions = table.iter().filter(|symbol| match symbol.st_type() {
        STT_FUNC => !symbol.is_undefined(endian),
        STT_NOTYPE => is_code(symbol.st_shndx(endian)),
        _ => false,
    });
    let mut symbols = Vec::new();
    for symbol in functions {
        let name = std::str::from_utf8(symbol.name(endian, table.strings())?)?;
        symbols.push((symbol.st_value(endian), symbol.st_size(endian), name));
    }
    symbols.sort_unstable();
    let mut text = String::new();
    for (at, bytes, name) in symbols {
        writeln!(text, "{at:016x} {bytes:016x} t {name}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use abi::layout::{IMAGE, IMAGE_END};

    #[test]
    fn the_image_of_the_build_has_its_functions() {
        let text = super::of_image(workloads::GUEST_IMAGE).unwrap();
        assert!(text.lines().count() > 20, "{text}");
        assert!(text.contains(" t guarded_store\n"), "of assembly: {text}");
        for line in text.lines() {
            let at = line.split(' ').next().unwrap();
            let at = u64::from_str_radix(at, 16).unwrap();
            assert!((IMAGE.0..IMAGE_END.0).contains(&at), "{line}");
        }
        assert!(super::of_image(&workloads::GUEST_IMAGE[..100]).is_err());
    }
}
