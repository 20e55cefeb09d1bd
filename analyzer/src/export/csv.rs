//! A row as JSON, written as CSV: the values of a flat object with commas between them.

use std::io::{self, Write};

use serde_json::ser::{CharEscape, Formatter};

/// Writes each object as a line: numbers as they are, null as nothing, text in quotes where it needs
/// them.
#[derive(Debug, Default)]
pub(super) struct Csv {
    /// The string that comes is a name of a field: the head of the file has it.
    is_key: bool,
    text: Vec<u8>,
}

impl Csv {
    /// The line above the rows.
    pub(super) fn head<'a>(names: impl Iterator<Item = &'a str>) -> String {
        names.collect::<Vec<_>>().join(",") + "\n"
    }
}

impl Formatter for Csv {
    fn write_null<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b"\n")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.is_key = true;
        match first {
            true => Ok(()),
            false => to.write_all(b","),
        }
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.is_key = false;
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn begin_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.text.clear();
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        _: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.text.extend_from_slice(fragment.as_bytes());
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        _: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let plain: &[u8] = match escape {
            CharEscape::Quote => b"\"\"",
            CharEscape::ReverseSolidus => b"\\",
            CharEscape::Solidus => b"/",
            // A control character: what reads the file may be a terminal.
            _ => "\u{fffd}".as_bytes(),
        };
        self.text.extend_from_slice(plain);
        Ok(())
    }

    fn end_string<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        if self.is_key {
            return Ok(());
        }
        match self.text.iter().any(|byte| b",\"".contains(byte)) {
            true => {
                to.write_all(b"\"")?;
                to.write_all(&self.text)?;
                to.write_all(b"\"")
            }
            false => to.write_all(&self.text),
        }
    }
}
