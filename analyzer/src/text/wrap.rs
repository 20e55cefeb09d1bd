//! Lines that fit the terminal.

use terminal_size::{Width, terminal_size_of};
use textwrap::{Options, WordSplitter, fill};

/// Columns where stdout is no terminal: a file, a pipe, a test.
const DEFAULT: usize = 100;
/// In fewer columns than this, tables are not readable.
const LEAST: usize = 60;

/// Columns of the terminal on stdout.
pub fn columns() -> usize {
    match terminal_size_of(std::io::stdout()) {
        Some((Width(columns), _)) => usize::from(columns).max(LEAST),
        None => DEFAULT,
    }
}

/// `text` as a paragraph of lines that fit: the first begins with `first`, the others with `rest`.
pub fn wrap(text: &str, first: &str, rest: &str) -> String {
    let options = Options::new(columns())
        .initial_indent(first)
        .subsequent_indent(rest)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    fill(text, options)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_paragraph_is_indented_and_fits() {
        let text = super::wrap(&"word ".repeat(40), "- ", "  ");
        assert!(text.lines().all(|line| line.len() <= super::columns()));
        assert!(text.starts_with("- word"));
        assert_eq!(text.lines().nth(1).map(|line| &line[..6]), Some("  word"));
    }
}
