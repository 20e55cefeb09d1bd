//! Results on stdout.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use anyhow::Context as _;
use serde::Serialize;

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
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("while printing the result")?;
        }
        _ => {}
    }
    Ok(())
}

/// Prints a value as JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).context("while writing JSON")?;
    print(&(text + "\n"))
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
