//! Names of the Linux guest's functions. The guest boots the kernel image that the lab boots, and
//! KASLR moves all functions of an image by the same distance: the lab's own list, moved, is the
//! guest's. Debian's package of a kernel has no System.map, and the guest would need minutes to
//! print its list on its serial console.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use events::Gva;

/// First address of a kernel's image (`__START_KERNEL_map`).
const IMAGE: Gva = Gva(0xffff_ffff_8000_0000);

/// Start and end of a running kernel's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// `_text`.
    start: Option<Gva>,
    /// `_etext`.
    end: Option<Gva>,
}

impl Code {
    /// Takes a line of the kernel's `/proc/kallsyms`; other lines change nothing.
    pub fn read(&mut self, line: &str) {
        match function(line) {
            Some((at, _, "_text")) => self.start = Some(at),
            Some((at, _, "_etext")) => self.end = Some(at),
            _ => {}
        }
    }

    fn of(list: &str) -> Self {
        let mut code = Self::default();
        list.lines().for_each(|line| code.read(line));
        code
    }

    fn bounds(self) -> anyhow::Result<(Gva, Gva)> {
        let missing = |name| format!("/proc/kallsyms has no {name}");
        let start = self.start.with_context(|| missing("_text"))?;
        let end = self.end.with_context(|| missing("_etext"))?;
        ensure!(
            start >= IMAGE,
            "/proc/kallsyms hides its addresses: _text is {start}"
        );
        Ok((start, end))
    }
}

/// The functions of the lab's list, without those of modules, where the guest has them; in the
/// format of [`trace::SYMBOLS`].
pub fn moved(list: &str, guest: Code) -> anyhow::Result<String> {
    let (start, end) = Code::of(list).bounds().context("in the lab")?;
    let (guest_start, guest_end) = guest.bounds().context("in the Linux guest")?;
    ensure!(
        end.0.wrapping_sub(start.0) == guest_end.0.wrapping_sub(guest_start.0),
        "the Linux guest runs another kernel than the lab: its code is from {guest_start} to \
         {guest_end}, the lab's from {start} to {end}"
    );
    let mut moved = String::new();
    for (at, kind, name) in list.lines().filter_map(function) {
        let at = at.0.wrapping_sub(start.0).wrapping_add(guest_start.0);
        writeln!(moved, "{at:016x} {kind} {name}")?;
    }
    Ok(moved)
}

/// A function of the kernel itself; a line of a module has its name as fourth word.
fn function(line: &str) -> Option<(Gva, &str, &str)> {
    let mut words = line.split_ascii_whitespace();
    let at = u64::from_str_radix(words.next()?, 16).ok()?;
    let kind = words.next()?;
    let name = words.next()?;
    let is_function = matches!(kind, "t" | "T" | "w" | "W") && words.next().is_none();
    is_function.then_some((Gva(at), kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "0000000000000000 A fixed_percpu_data\n\
                        ffffffff9a000000 T _text\n\
                        ffffffff9a000100 t early_setup\n\
                        ffffffff9ae00000 T _etext\n\
                        ffffffff9b000000 D jiffies\n\
                        ffffffffc0001000 t of_a_module\t[kvm]\n";

    fn guest(end: &str) -> Code {
        Code::of(&format!(
            "ffffffffb2000000 T _text\nLinux\n{end} T _etext\n"
        ))
    }

    #[test]
    fn the_kernels_functions_are_moved_and_those_of_modules_left_out() {
        let expected = "ffffffffb2000000 T _text\n\
                        ffffffffb2000100 t early_setup\n\
                        ffffffffb2e00000 T _etext\n";
        assert_eq!(moved(LIST, guest("ffffffffb2e00000")).unwrap(), expected);
    }

    #[test]
    fn another_kernel_or_one_that_hides_its_addresses_is_refused() {
        let refused = |list: &str, guest| format!("{:#}", moved(list, guest).unwrap_err());
        let same = guest("ffffffffb2e00000");
        let error = refused(LIST, guest("ffffffffb2d00000"));
        assert!(error.contains("another kernel"), "{error}");
        let error = refused(LIST, Code::default());
        assert!(error.contains("in the Linux guest"), "{error}");
        let hidden = "0000000000000000 T _text\n0000000000000000 T _etext\n";
        let error = refused(hidden, same);
        assert!(error.contains("hides its addresses"), "{error}");
    }
}
