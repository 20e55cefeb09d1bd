//! Lists of symbols: `/proc/kallsyms`, `System.map` and what `nm -S` prints.

use events::Gva;

use super::{file::LONGEST, table::Symbol};

/// What a list holds.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) symbols: Vec<Symbol>,
    /// It names modules, as only a running kernel's list does.
    pub(super) has_modules: bool,
}

/// Why a list cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// This line, from 1, is no symbol.
    Line(usize, String),
    /// The name in this line is too long.
    Name(usize),
    /// It says where the real one is.
    Stub(String),
}

/// Characters of a line that are shown.
const SHOWN: usize = 60;
/// The same of a stub.
const STUB: usize = 100;

/// `ADDRESS [SIZE] TYPE NAME [MODULE]`, all numbers in hexadecimal without `0x`. The type is a
/// letter as `nm` has it: `t` and `T` are functions, capital letters are global.
pub(super) fn parse(text: &str) -> Result<Listed, Refused> {
    let mut listed = Listed {
        symbols: Vec::new(),
        has_modules: false,
    };
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        // Debian's packages of kernels have this in the place of System.map.
        if line.contains("The real System.map is in") {
            return Err(Refused::Stub(line.trim().chars().take(STUB).collect()));
        }
        let symbol = symbol(line, &mut listed.has_modules);
        let refused = || Refused::Line(number, line.chars().take(SHOWN).collect());
        let symbol = symbol.ok_or_else(refused)?;
        if symbol.name.len() > LONGEST {
            return Err(Refused::Name(number));
        }
        listed.symbols.push(symbol);
    }
    Ok(listed)
}

fn symbol(line: &str, has_modules: &mut bool) -> Option<Symbol> {
    let mut words = line.split_ascii_whitespace();
    let number = |word: &str| u64::from_str_radix(word, 16).ok();
    let at = number(words.next()?)?;
    let (bytes, kind) = match words.next()? {
        kind if is_kind(kind) => (None, kind),
        size => (
            Some(number(size)?),
            words.next().filter(|kind| is_kind(kind))?,
        ),
    };
    let name = words.next()?;
    *has_modules |= words.next().is_some_and(|word| word.starts_with('['));
    Some(Symbol {
        at: Gva(at),
        bytes,
        is_function: matches!(kind, "t" | "T" | "w" | "W" | "i"),
        is_global: kind.starts_with(|c: char| c.is_ascii_uppercase()),
        name: name.to_owned(),
    })
}

/// One letter. `a` to `f` are sizes too, but no symbol is that small and alone: they are letters.
fn is_kind(word: &str) -> bool {
    word.len() == 1 && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_lists_are_read() {
        let text = "ffffffff81000000 T _text\n\
                    0000000000108000 0000000000000123 t work\n\
                    ffffffffc0001000 t fn_of_a_module\t[loop]\n\
                    0000000000000000 A fixed_percpu_data\n";
        let listed = parse(text).unwrap();
        assert!(listed.has_modules);
        let [text, work, module, data] = &listed.symbols[..] else {
            panic!("{listed:?}");
        };
        assert_eq!((text.at, text.bytes), (Gva(0xffff_ffff_8100_0000), None));
        assert!(text.is_global && text.is_function);
        assert_eq!((work.bytes, work.is_global), (Some(0x123), false));
        assert_eq!(module.name, "fn_of_a_module");
        assert!(!data.is_function);
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        for (text, number) in [
            ("hello world\n", 1),
            ("00 T a\n\n00 T\n", 3),
            ("0x10 T a", 1),
        ] {
            let Err(Refused::Line(at, _)) = parse(text) else {
                panic!("{text}");
            };
            assert_eq!(at, number, "{text}");
        }
        let stub = "ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg \
                    package\n";
        assert!(matches!(parse(stub), Err(Refused::Stub(_))));
    }
}
