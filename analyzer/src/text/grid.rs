//! Columns that line up.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::wrap::columns;

/// Between two columns.
const GAP: u16 = 2;
/// A column of words is not made narrower than this.
const NARROWEST: u16 = 16;

/// How a column is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words: to the left, and broken into lines where the terminal is too narrow.
    Words,
    /// Names and addresses: to the left, in one piece.
    Code,
    /// To the right, in one piece.
    Number,
}

/// Rows of cells, drawn with the width that each column needs.
#[derive(Clone, Debug)]
pub struct Grid {
    kinds: Vec<Kind>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// A grid with a head; a leading `>` makes a column one of numbers.
    pub fn new(head: &[&str]) -> Self {
        let columns = head.iter().map(|name| match name.strip_prefix('>') {
            Some(name) => (name.to_owned(), Kind::Number),
            None => ((*name).to_owned(), Kind::Words),
        });
        Self::of(columns)
    }

    /// A grid of columns with a name and a kind each.
    pub fn of(columns: impl IntoIterator<Item = (String, Kind)>) -> Self {
        let (head, kinds) = columns.into_iter().unzip();
        Self {
            kinds,
            rows: vec![head],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// No row below the head.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The text, each line indented by `indent` spaces; words are wrapped to fit the terminal.
    pub fn text(&self, indent: usize) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        let mut rows = self.rows.iter();
        if let Some(head) = rows.next() {
            table.set_header(head);
        }
        table.add_rows(rows);
        let widths = table.column_max_content_widths();
        let mut least = 0_u16;
        for ((column, kind), width) in table.column_iter_mut().zip(&self.kinds).zip(widths) {
            column.set_padding((0, GAP));
            let narrowest = match kind {
                Kind::Words => width.min(NARROWEST),
                Kind::Code | Kind::Number => width,
            };
            least = least.saturating_add(narrowest).saturating_add(GAP);
            match kind {
                Kind::Number => column.set_cell_alignment(CellAlignment::Right),
                Kind::Words | Kind::Code => column.set_cell_alignment(CellAlignment::Left),
            };
            column.set_constraint(match kind {
                Kind::Words => ColumnConstraint::LowerBoundary(Width::Fixed(narrowest + GAP)),
                Kind::Code | Kind::Number => ColumnConstraint::ContentWidth,
            });
        }
        // The last column's gap is outside.
        let room = columns()
            .saturating_sub(indent)
            .saturating_add(usize::from(GAP));
        table.set_width(u16::try_from(room).unwrap_or(u16::MAX).max(least));
        let indent = " ".repeat(indent);
        table
            .lines()
            .map(|line| format!("{indent}{}", line.trim_end()).trim_end().to_owned() + "\n")
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_numbers_are_not() {
        let mut grid = Grid::new(&["name", ">number", "what it says"]);
        grid.row(["a_long_name", "1,234,567", &"word ".repeat(30)].map(str::to_owned));
        grid.row(["b", "8", "short"].map(str::to_owned));
        let text = grid.text(2);
        assert!(text.lines().all(|line| line.len() <= columns()), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "  name            number  what it says");
        assert!(lines[1].starts_with("  a_long_name  1,234,567  word word"));
        assert!(lines[2].starts_with("                          word"));
        assert_eq!(lines[lines.len() - 1], "  b                    8  short");
    }

    #[test]
    fn what_cannot_fit_is_not_cut() {
        let mut grid = Grid::of([("a".to_owned(), Kind::Code), ("b".to_owned(), Kind::Words)]);
        grid.row(["x".repeat(200), "word ".repeat(9)]);
        assert!(grid.text(0).contains(&"x".repeat(200)));
    }
}
