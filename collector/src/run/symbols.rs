//! Names of the built-in guest's functions, for the trace.

use std::fmt::Write as _;

use anyhow::Context as _;
use object::{
    Endianness,
    elf::{FileHeader64, SHT_SYMTAB, STT_FUNC},
    read::elf::{FileHeader as _, Sym as _},
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
    let functions = table
        .iter()
        .filter(|symbol| symbol.st_type() == STT_FUNC && !symbol.is_undefined(endian));
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
        for line in text.lines() {
            let at = line.split(' ').next().unwrap();
            let at = u64::from_str_radix(at, 16).unwrap();
            assert!((IMAGE.0..IMAGE_END.0).contains(&at), "{line}");
        }
        assert!(super::of_image(&workloads::GUEST_IMAGE[..100]).is_err());
    }
}
