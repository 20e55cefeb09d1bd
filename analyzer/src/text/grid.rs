//! Columns that line up.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::wrap::columns;

/// Between two columns.
const GAP: u16 = 2;
/// A column of words is not made narrower than this.
const NARROWEST: usize = 16;

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

    /// The text, each line indented by `indent` spaces. Where the terminal is too narrow, words are
    /// wrapped, then heads, then the columns move together.
    pub fn text(&self, indent: usize) -> String {
        self.within(columns(), indent)
    }

    fn within(&self, columns: usize, indent: usize) -> String {
        let room = u16::try_from(columns.saturating_sub(indent)).unwrap_or(u16::MAX);
        let (roomy, tight) = (self.narrowest(false), self.narrowest(true));
        let needs = |widths: &[u16], gap: u16| {
            let widths = widths.iter().map(|width| width.saturating_add(gap));
            // The last column's gap is outside.
            widths.fold(0, u16::saturating_add).saturating_sub(gap)
        };
        let (widths, gap) = if needs(&roomy, GAP) <= room {
            (roomy, GAP)
        } else if needs(&tight, GAP) <= room {
            (tight, GAP)
        } else {
            (tight, GAP / 2)
        };
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        let mut rows = self.rows.iter();
        if let Some(head) = rows.next() {
            table.set_header(head);
        }
        table.add_rows(rows);
        table.set_width(room.max(needs(&widths, gap)).saturating_add(gap));
        for ((column, kind), width) in table.column_iter_mut().zip(&self.kinds).zip(widths) {
            column.set_padding((0, gap));
            let width = Width::Fixed(width.saturating_add(gap));
            let (alignment, constraint) = match kind {
                Kind::Words => (CellAlignment::Left, ColumnConstraint::LowerBoundary(width)),
                Kind::Code => (CellAlignment::Left, ColumnConstraint::Absolute(width)),
                Kind::Number => (CellAlignment::Right, ColumnConstraint::Absolute(width)),
            };
            column.set_cell_alignment(alignment);
            column.set_constraint(constraint);
        }
        let indent = " ".repeat(indent);
        table
            .lines()
            .map(|line| format!("{indent}{}", line.trim_end()).trim_end().to_owned() + "\n")
            .collect()
    }

    /// The least width of each column; `tight` allows heads to be wrapped, and words to the longest.
    fn narrowest(&self, tight: bool) -> Vec<u16> {
        let columns = self.kinds.iter().enumerate().map(|(index, kind)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let widths = cells.enumerate().map(|(row, cell)| {
                let whole = cell.chars().count();
                let word = cell.split(' ').map(|word| word.chars().count()).max();
                match kind {
                    Kind::Words if tight => word.unwrap_or_default().min(NARROWEST),
                    Kind::Words => whole.min(NARROWEST),
                    Kind::Code | Kind::Number if tight && row == 0 => word.unwrap_or_default(),
                    Kind::Code | Kind::Number => whole,
                }
            });
            u16::try_from(widths.max().unwrap_or_default()).unwrap_or(u16::MAX)
        });
        columns.collect()
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
    fn heads_are_wrapped_before_columns_move_together() {
        let names = ["keyframe", "entries off", "pages off"];
        let mut grid = Grid::of(names.map(|name| (name.to_owned(), Kind::Number)));
        grid.row(["1", "0", "12"].map(str::to_owned));
        assert_eq!(
            grid.within(40, 2),
            "  keyframe  entries off  pages off\n         1            0         12\n"
        );
        assert_eq!(
            grid.within(26, 2),
            "  keyframe  entries  pages\n                off    off\n         1        0     12\n"
        );
        assert_eq!(
            grid.within(24, 2),
            "  keyframe entries pages\n               off   off\n         1       0    12\n"
        );
    }

    #[test]
    fn what_cannot_fit_is_not_cut() {
        let mut grid = Grid::of([("a".to_owned(), Kind::Code), ("b".to_owned(), Kind::Words)]);
        grid.row(["x".repeat(200), "word ".repeat(9)]);
        assert!(grid.text(0).contains(&"x".repeat(200)));
    }
}
