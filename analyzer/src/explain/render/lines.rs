//! Lines of a width.

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm, fill};

/// Width of the left one of two columns.
const LEFT: usize = 48;

/// Text that is shorter than a width, line by line.
#[derive(Debug)]
pub struct Lines {
    text: String,
    width: usize,
}

impl Lines {
    /// Lines of fewer than `width` columns, where words allow that.
    pub fn new(width: usize) -> Self {
        Self {
            text: String::new(),
            width,
        }
    }

    /// Adds a line, so many columns in. What does not fit is wrapped between words.
    pub fn line(&mut self, indent: usize, line: impl AsRef<str>) {
        let indent = " ".repeat(indent);
        let options = Options::new(self.width.saturating_sub(1))
            .initial_indent(&indent)
            .subsequent_indent(&indent)
            .wrap_algorithm(WrapAlgorithm::FirstFit)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .break_words(false);
        self.text.push_str(&fill(line.as_ref(), options));
        self.text.push('\n');
    }

    /// Adds an empty line.
    pub fn blank(&mut self) {
        self.text.push('\n');
    }

    /// Begins a section.
    pub fn section(&mut self, number: u8, title: &str) {
        self.line(0, format!("{number}  {title}"));
    }

    /// Says how many were left out of a list.
    pub fn more(&mut self, indent: usize, total: u64, shown: usize) {
        let more = total.saturating_sub(shown as u64);
        if more > 0 {
            self.line(
                indent,
                format!("and {} more", crate::text::units::count(more)),
            );
        }
    }

    /// An empty column for [`Lines::side_by_side`].
    pub fn column(&self) -> Self {
        Self::new(usize::MAX)
    }

    /// Adds two columns side by side, or one below the other if they are too wide for that.
    pub fn side_by_side(&mut self, left: &Lines, right: &Lines) {
        let widest = |of: &Lines| of.text.lines().map(|line| line.chars().count()).max();
        let (left_width, right_width) = (widest(left), widest(right));
        if left_width > Some(LEFT) || LEFT + 1 + right_width.unwrap_or(0) >= self.width {
            left.text.lines().for_each(|line| self.line_as_is(line));
            right.text.lines().for_each(|line| self.line_as_is(line));
            return;
        }
        let (mut left, mut right) = (left.text.lines(), right.text.lines());
        loop {
            let (a, b) = (left.next(), right.next());
            if a.is_none() && b.is_none() {
                return;
            }
            let line = format!("{:<LEFT$} {}", a.unwrap_or(""), b.unwrap_or(""));
            self.line(0, line.trim_end());
        }
    }

    /// Adds a line that has its indent already.
    fn line_as_is(&mut self, line: &str) {
        let words = line.trim_start();
        self.line(line.len() - words.len(), words);
    }

    /// The text.
    pub fn text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_does_not_fit_is_wrapped_between_words() {
        let mut lines = Lines::new(12);
        lines.line(2, "one  two");
        lines.line(2, "one two  three averyverylongword");
        assert_eq!(
            lines.text(),
            "  one  two\n  one two\n  three\n  averyverylongword\n"
        );
    }

    #[test]
    fn columns_that_do_not_fit_are_one_below_the_other() {
        let shown = |width: usize| {
            let mut lines = Lines::new(width);
            let (mut left, mut right) = (lines.column(), lines.column());
            left.line(1, "left");
            right.line(1, "right");
            right.line(1, "more");
            lines.side_by_side(&left, &right);
            lines.text()
        };
        assert_eq!(shown(50), " left\n right\n more\n");
        let (left, empty) = (format!("{:<48}", " left"), " ".repeat(48));
        assert_eq!(shown(80), format!("{left}  right\n{empty}  more\n"));
    }
}
