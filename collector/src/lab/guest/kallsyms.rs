//! The names of the Linux guest's functions. The guest runs the kernel that the lab runs, each where
//! KASLR loaded it: the lab's own list, moved, is the guest's. Debian's package of the kernel has no
//! System.map, and the guest's list would take minutes through its console.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};

/// First address of a kernel's image (`__START_KERNEL_map`).
const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// The symbol by which two lists are compared.
const TEXT: &str = "_text";

/// The functions of a list like `/proc/kallsyms`, without those of modules, in a kernel whose
/// `_text` is at `guest_text`.
pub fn moved(list: &str, guest_text: u64) -> anyhow::Result<String> {
    let functions: Vec<_> = list.lines().filter_map(function).collect();
    let text = functions.iter().find(|(_, _, name)| *name == TEXT);
    let (text, ..) = text.context("the lab's /proc/kallsyms has no _text")?;
    ensure!(
        *text >= IMAGE,
        "the lab's /proc/kallsyms hides its addresses"
    );
    let mut moved = String::new();
    for (at, kind, name) in &functions {
        let at = at.wrapping_sub(*text).wrapping_add(guest_text);
        writeln!(moved, "{at:016x} {kind} {name}")?;
    }
    Ok(moved)
}

/// A function of the kernel itself; the name of a module is a fourth word.
fn function(line: &str) -> Option<(u64, &str, &str)> {
    let mut words = line.split_ascii_whitespace();
    let at = u64::from_str_radix(words.next()?, 16).ok()?;
    let kind = words
        .next()
        .filter(|kind| matches!(*kind, "t" | "T" | "w" | "W"))?;
    let name = words.next()?;
    words.next().is_none().then_some((at, kind, name))
}

/// The address in a line of a list, if it is that of `_text`.
pub fn text(line: &str) -> Option<u64> {
    function(line)
        .filter(|(.., name)| *name == TEXT)
        .map(|(at, ..)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_functions_are_moved_and_modules_left_out() {
        let list = "0000000000000000 A fixed_percpu_data\n\
                    ffffffff9a000000 T _text\n\
                    ffffffff9a000100 t early_setup\n\
                    ffffffff9b000000 D jiffies\n\
                    ffffffffc0001000 t of_a_module\t[kvm]\n";
        let guest = text("ffffffffb2000000 T _text").unwrap();
        let expected = "ffffffffb2000000 T _text\nffffffffb2000100 t early_setup\n";
        assert_eq!(moved(list, guest).unwrap(), expected);
        assert!(moved("0000000000000000 T _text\n", guest).is_err());
        assert!(moved("", guest).is_err());
        assert_eq!(text("ffffffffb2000100 t early_setup"), None);
    }
}
