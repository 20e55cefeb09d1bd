//! Results on stdout.

use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Write};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::Failure;
use crate::{text::wrap, verdict::Line};

/// Colours of the terminal's palette.
const GREEN: u8 = 32;
const RED: u8 = 31;

/// Prints text. A reader that has seen enough (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    printed(written)
}

fn printed(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("while printing the result")?;
        }
        _ => {}
    }
    Ok(())
}

/// From this length on, bytes, most of indented JSON is indentation.
const LONG: usize = 1 << 20;

/// Prints a value as JSON: indented, or as [`print_long_json`] does.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).context("while writing JSON")?;
    if text.len() > LONG {
        return print_long_json(value);
    }
    print(&(text + "\n"))
}

/// Prints a value as JSON that may be too long to hold: each element of its lists on a line.
pub fn print_long_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    let mut out = Serializer::with_formatter(&mut stdout, Lines::default());
    let written = value
        .serialize(&mut out)
        .map_err(io::Error::from)
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    printed(written)
}

/// Fields of the outermost object and elements of its lists begin a line.
#[derive(Debug, Default)]
struct Lines {
    depth: u32,
}

impl Lines {
    fn begin(&mut self, out: &mut (impl Write + ?Sized), sign: &[u8]) -> io::Result<()> {
        self.depth += 1;
        out.write_all(sign)
    }

    fn element(&self, out: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b"," })?;
        out.write_all(if self.depth <= 2 { b"\n" } else { b"" })
    }

    fn end(&mut self, out: &mut (impl Write + ?Sized), sign: &[u8]) -> io::Result<()> {
        out.write_all(if self.depth <= 2 { b"\n" } else { b"" })?;
        self.depth -= 1;
        out.write_all(sign)
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.element(out, first)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.element(out, first)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }
}

/// Whether words may be coloured: on a terminal, unless `NO_COLOR` says no.
pub fn coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `text` in bold and a colour of the terminal's palette, or as it is.
fn paint(text: &str, code: u8) -> String {
    if coloured() {
        format!("\x1b[1;{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// The lines of a verdict: what is good in green, what is not in red.
pub fn lines(lines: &[Line]) -> String {
    let line = |line: &Line| {
        let colour = if line.good { GREEN } else { RED };
        paint(&wrap(&line.text, "", "  "), colour) + "\n"
    };
    lines.iter().map(line).collect()
}
