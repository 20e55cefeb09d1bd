//! Lines for the terminal, and text that fits it.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use textwrap::{Options, WordSplitter};

/// Columns where the output is no terminal.
pub const DEFAULT_WIDTH: usize = 100;
/// A narrower terminal gets lines of this width, and breaks them itself.
const MIN_WIDTH: usize = 60;

/// A line on standard error for whoever still reads it. A terminal that is closed takes nothing, and
/// ends nothing.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A line on standard output that says how things go; results are written with their errors.
pub fn show(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Columns of the terminal on standard output.
pub fn width() -> usize {
    terminal_size::terminal_size_of(io::stdout())
        .map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0))
        .max(MIN_WIDTH)
}

/// `text` in lines of at most `width` columns, `first` before the first line and `rest` before the
/// others. Lines that `text` has already stay lines.
pub fn wrap(text: &str, width: usize, first: &str, rest: &str) -> String {
    // A flag or a file name is not broken at its hyphens.
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(rest)
        .word_splitter(WordSplitter::NoHyphenation)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .break_words(false);
    textwrap::fill(text, options)
}

/// A message for standard error. Where that is no terminal each message stays as it is, so that a
/// line of a log holds all of it.
pub fn message(label: &str, text: &str) -> String {
    let first = format!("{label}: ");
    if !io::stderr().is_terminal() {
        return first + text;
    }
    let width = terminal_size::terminal_size_of(io::stderr())
        .map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0))
        .max(MIN_WIDTH);
    let rest = " ".repeat(first.len());
    let mut lines = text.split('\n');
    let mut message = wrap(lines.next().unwrap_or_default(), width, &first, &rest);
    // Registers and a console's lines have a layout of their own.
    for line in lines {
        message.push('\n');
        message.push_str(line);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_wrapped_and_words_stay_whole() {
        let text = "boot without lockdown, or with --no-lockdown-at-all and /a/very/long/path";
        assert_eq!(
            wrap(text, 30, "hint: ", "      "),
            "hint: boot without lockdown,\n      or with\n      --no-lockdown-at-all and\n      /a/very/long/path"
        );
        assert_eq!(wrap("short", 30, "", ""), "short");
    }
}
