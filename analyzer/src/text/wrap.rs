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

/// `text` with each line that is too long broken at spaces: the rest of it is indented further than
/// the line.
pub fn fit(text: &str) -> String {
    let width = columns();
    let line = |line: &str| match line.chars().count() > width {
        true => {
            let words = line.trim_start();
            let indent = &line[..line.len() - words.len()];
            wrap(words, indent, &format!("{indent}    ")) + "\n"
        }
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_a_line_that_is_too_long_is_broken() {
        let long = format!("  [  0] {}", "word ".repeat(30));
        let text = super::fit(&format!("{long}\n\n  a  b\n"));
        assert!(text.lines().all(|line| line.len() <= super::columns()));
        assert!(text.starts_with("  [  0] word"), "{text}");
        assert!(text.ends_with("word\n\n  a  b\n"), "{text}");
        assert_eq!(text.lines().nth(1).map(|line| &line[..7]), Some("      w"));
    }

    #[test]
    fn a_paragraph_is_indented_and_fits() {
        let text = super::wrap(&"word ".repeat(40), "- ", "  ");
        assert!(text.lines().all(|line| line.len() <= super::columns()));
        assert!(text.starts_with("- word"));
        assert_eq!(text.lines().nth(1).map(|line| &line[..6]), Some("  word"));
    }
}
