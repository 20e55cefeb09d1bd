//! A table of typed values: built once, printed for a terminal, as Markdown, as CSV, on a page.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::{
    Grid,
    grid::Kind,
    plain,
    units::{count, ns, percent, plural, signed, since},
};

/// A value in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// There is no value.
    Absent,
    /// Text, without control characters.
    Words(String),
    /// How many.
    Count(u64),
    /// How many more, or fewer.
    Signed(i64),
    /// A length of time, ns.
    Time(u64),
    /// A moment, ns after the start of the trace.
    At(u64),
    /// A part of a whole.
    Share(u64, u64),
    /// A change, in millionths of what it was.
    Change(i64),
    /// An address.
    Address(u64),
    /// A page-table entry.
    Entry(u64),
}

impl Cell {
    /// Text from a trace or from us.
    pub fn words(text: impl AsRef<str>) -> Self {
        Self::Words(plain(text.as_ref()))
    }

    /// A count, if there is one.
    pub fn count(number: Option<u64>) -> Self {
        number.map_or(Self::Absent, Self::Count)
    }

    /// A length of time, if there is one.
    pub fn time(ns: Option<u64>) -> Self {
        ns.map_or(Self::Absent, Self::Time)
    }

    /// A change in percent, if there is one.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what does not fit becomes the nearest that does"
    )]
    pub fn change(percent: Option<f64>) -> Self {
        percent.map_or(Self::Absent, |percent| {
            Self::Change((percent * 1e4).round() as i64)
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Words(text) => text.clone(),
            Self::Count(number) => count(*number),
            Self::Signed(number) => signed(*number),
            Self::Time(time) => ns(*time),
            Self::At(time) => since(*time, 0),
            Self::Share(part, whole) => percent(*part, *whole),
            // What is more than ten times as much has no digits that mean anything.
            Self::Change(9_995_000..) => ">+999%".to_owned(),
            Self::Change(millionths) => format!("{:+.1}%", *millionths as f64 / 1e4),
            Self::Address(address) => format!("{address:#x}"),
            Self::Entry(entry) => format!("{entry:#018x}"),
        }
    }

    /// For programs: no separators, the unit of the column.
    fn value(&self) -> String {
        match self {
            Self::Count(number) | Self::Time(number) | Self::At(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Share(part, whole) => format!("{:.4}", share(*part, *whole)),
            Self::Change(millionths) => format!("{:.4}", *millionths as f64 / 1e4),
            Self::Absent | Self::Words(_) | Self::Address(_) | Self::Entry(_) => self.text(),
        }
    }
}

/// In percent.
fn share(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// As in CSV, but counts, times and shares are numbers.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => to.serialize_none(),
            Self::Words(text) => to.serialize_str(text),
            Self::Address(_) | Self::Entry(_) => to.serialize_str(&self.text()),
            Self::Count(number) | Self::Time(number) | Self::At(number) => {
                to.serialize_u64(*number)
            }
            Self::Signed(number) => to.serialize_i64(*number),
            Self::Share(part, whole) => to.serialize_f64(share(*part, *whole)),
            Self::Change(millionths) => to.serialize_f64(*millionths as f64 / 1e4),
        }
    }
}

/// A column: its name, the unit of its values for programs, and how it is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    name: String,
    unit: &'static str,
    kind: Kind,
    for_programs: bool,
    group: &'static str,
}

impl Column {
    /// Text that may be broken into lines.
    pub fn words(name: impl Into<String>) -> Self {
        Self::new(name, "", Kind::Words)
    }

    /// Names, addresses and entries.
    pub fn code(name: impl Into<String>) -> Self {
        Self::new(name, "", Kind::Code)
    }

    /// Counts.
    pub fn number(name: impl Into<String>) -> Self {
        Self::new(name, "", Kind::Number)
    }

    /// Times, in nanoseconds for programs.
    pub fn time(name: impl Into<String>) -> Self {
        Self::new(name, "ns", Kind::Number)
    }

    /// Parts of a whole, in percent.
    pub fn share(name: impl Into<String>) -> Self {
        Self::new(name, "percent", Kind::Number)
    }

    fn new(name: impl Into<String>, unit: &'static str, kind: Kind) -> Self {
        Self {
            name: name.into(),
            unit,
            kind,
            for_programs: false,
            group: "",
        }
    }

    /// Left out of what people are shown.
    pub fn for_programs(self) -> Self {
        Self {
            for_programs: true,
            ..self
        }
    }

    /// One of several with a common heading.
    pub fn under(self, group: &'static str) -> Self {
        Self { group, ..self }
    }

    /// Left out of what people are shown, unless there is something to see.
    pub fn shown_if(self, something: bool) -> Self {
        Self {
            for_programs: self.for_programs || !something,
            ..self
        }
    }

    /// For people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name with the common heading, for Markdown: it has one row of names.
    fn whole_name(&self) -> String {
        format!("{} {}", self.group, self.name).trim().to_owned()
    }

    /// For programs: `In faults` in percent is `in_faults_percent`.
    pub fn key(&self) -> String {
        let name = self.name.to_lowercase();
        let name = name.replace(|c: char| !c.is_alphanumeric(), "_");
        match self.unit {
            "" => name,
            unit => format!("{name}_{unit}"),
        }
    }

    /// Class of its cells on the page.
    pub fn class(&self) -> &'static str {
        match self.kind {
            Kind::Words => "words",
            Kind::Code => "mono",
            Kind::Number => "n",
        }
    }
}

/// Which rows people are shown; programs get all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    All,
    First(usize),
    Last(usize),
}

/// What a page shows of a table.
#[derive(Clone, Debug)]
pub struct Filled<'a> {
    /// Its columns.
    pub columns: Vec<&'a Column>,
    /// For each cell of each row, its class on the page and its text.
    pub rows: Vec<Vec<(&'static str, String)>>,
}

impl Filled<'_> {
    /// Common headings with the number of columns of each, in order; empty without any.
    pub fn groups(&self) -> Vec<(&'static str, usize)> {
        let groups = self.columns.chunk_by(|one, next| one.group == next.group);
        let groups = groups.filter_map(|of| Some((of.first()?.group, of.len())));
        let groups: Vec<_> = groups.collect();
        match groups.iter().any(|(name, _)| !name.is_empty()) {
            true => groups,
            false => Vec::new(),
        }
    }
}

/// The notes that were printed so far: none is printed twice.
#[derive(Debug, Default)]
pub struct Said(BTreeSet<String>);

impl Said {
    /// Whether it is new; from now on it is not.
    pub fn is_new(&mut self, note: &str) -> bool {
        !note.is_empty() && self.0.insert(note.to_owned())
    }
}

/// A table with its title.
#[derive(Clone, Debug)]
pub struct Table {
    name: &'static str,
    title: String,
    note: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    shown: Shown,
    more: Vec<String>,
    rules: Vec<String>,
}

impl Table {
    /// An empty one. `name` is what `--table` takes.
    pub fn new(
        name: &'static str,
        title: impl Into<String>,
        columns: impl IntoIterator<Item = Column>,
    ) -> Self {
        Self {
            name,
            title: title.into(),
            note: String::new(),
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
            shown: Shown::All,
            more: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// What to know before reading it.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// What else to know after reading it.
    pub fn more(mut self, more: impl Into<String>) -> Self {
        let more = more.into();
        if !more.is_empty() {
            self.more.push(more);
        }
        self
    }

    /// What to know after reading it that is true of other tables too: it is printed once.
    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        let rule = rule.into();
        if !rule.is_empty() {
            self.rules.push(rule);
        }
        self
    }

    /// Without what was said before: the note before the table, and the rules after it.
    pub fn say_once(&mut self, said: &mut Said) {
        if self.is_blank() {
            return;
        }
        self.rules.retain(|rule| said.is_new(rule));
        if !said.is_new(&self.note) {
            self.note.clear();
        }
    }

    /// Shows people the first rows only.
    pub fn first(mut self, rows: usize) -> Self {
        self.shown = Shown::First(rows);
        self
    }

    /// Shows people the last rows only.
    pub fn last(mut self, rows: usize) -> Self {
        self.shown = Shown::Last(rows);
        self
    }

    /// With this heading.
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// No row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// People are shown nothing of it: it has neither a row nor a note after the rows.
    pub fn is_blank(&self) -> bool {
        self.is_empty() && self.more.is_empty()
    }

    /// What `--table` takes.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its heading.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Its columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// All rows as CSV has them, in the order of the columns.
    pub(super) fn values(&self) -> impl Iterator<Item = impl Iterator<Item = String>> {
        self.rows.iter().map(|row| row.iter().map(Cell::value))
    }

    /// The rows that people are shown.
    pub fn shown(&self) -> &[Vec<Cell>] {
        let all = self.rows.len();
        let (from, to) = match self.shown {
            Shown::All => (0, all),
            Shown::First(rows) => (0, rows.min(all)),
            Shown::Last(rows) => (all.saturating_sub(rows), all),
        };
        self.rows.get(from..to).unwrap_or_default()
    }

    /// The columns that people are shown, with their cells in the rows shown; without those that
    /// have nothing in any of them.
    pub fn filled(&self) -> Filled<'_> {
        let shown = self.shown();
        let has_text = |at: usize| {
            let mut cells = shown.iter().filter_map(|row| row.get(at));
            cells.any(|cell| !cell.text().is_empty())
        };
        let columns = self.columns.iter().enumerate();
        let columns: Vec<_> = columns
            .filter(|(at, column)| !column.for_programs && has_text(*at))
            .collect();
        let row = |row: &'_ Vec<Cell>| -> Vec<(&'static str, String)> {
            let cells = columns.iter();
            let cells = cells.filter_map(|(at, column)| Some((column.class(), row.get(*at)?)));
            cells.map(|(class, cell)| (class, cell.text())).collect()
        };
        Filled {
            rows: shown.iter().map(row).collect(),
            columns: columns.into_iter().map(|(_, column)| column).collect(),
        }
    }

    /// The note before it, if any.
    pub fn before(&self) -> &str {
        &self.note
    }

    /// What is printed before and after it, without what was said before.
    pub(super) fn notes(&self, said: &mut Said) -> [String; 2] {
        let rules = self.rules.iter().filter(|rule| said.is_new(rule));
        let after = self.with_rules(rules.collect::<Vec<_>>().into_iter());
        let before = match said.is_new(&self.note) {
            true => self.note.clone(),
            false => String::new(),
        };
        [before, after]
    }

    /// What is printed after it: how many rows are not shown, and the notes.
    pub fn after(&self) -> String {
        self.with_rules(self.rules.iter())
    }

    fn with_rules<'a>(&'a self, rules: impl Iterator<Item = &'a String>) -> String {
        let hidden = self.rows.len() - self.shown().len();
        let mut after = match (hidden, self.shown) {
            (0, _) => String::new(),
            (more, Shown::Last(_)) => format!("{} before these", plural(more as u64, "row")),
            (more, _) => format!("and {} more", plural(more as u64, "row")),
        };
        for part in self.more.iter().chain(rules) {
            after += match after.chars().next_back() {
                None => "",
                Some('.') => " ",
                Some(_) => "; ",
            };
            after += part;
        }
        after
    }

    /// For a terminal, without the title.
    pub fn grid(&self) -> Grid {
        let columns = self.for_people();
        let mut grid = Grid::of(columns.map(|column| (column.name.clone(), column.kind)));
        for row in self.shown() {
            grid.row(self.texts(row));
        }
        grid
    }

    fn for_people(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.for_programs)
    }

    /// The cells of a row that people are shown.
    fn texts<'a>(&'a self, row: &'a [Cell]) -> impl Iterator<Item = String> + 'a {
        let cells = row.iter().zip(&self.columns);
        let shown = cells.filter(|(_, column)| !column.for_programs);
        shown.map(|(cell, _)| cell.text())
    }

    /// As Markdown, without the title; empty without a row.
    pub(super) fn markdown(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let line = |cells: &mut dyn Iterator<Item = String>| {
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let rule = |column: &Column| match column.kind {
            Kind::Number => "---:".to_owned(),
            Kind::Words | Kind::Code => "---".to_owned(),
        };
        let mut text = line(&mut self.for_people().map(Column::whole_name));
        text += &line(&mut self.for_people().map(rule));
        for row in self.shown() {
            text += &line(&mut self.texts(row));
        }
        text
    }
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let keys: Vec<_> = self.columns.iter().map(Column::key).collect();
        let mut table = to.serialize_struct("Table", 4)?;
        table.serialize_field("name", self.name)?;
        table.serialize_field("title", &self.title)?;
        table.serialize_field("columns", &keys)?;
        table.serialize_field("rows", &self.rows)?;
        table.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_said_once_and_a_count_with_each_table() {
        let table = |columns: [Column; 1]| {
            let mut table = Table::new("t", "T", columns)
                .note("times")
                .more("2 left out");
            table.row([Cell::Count(1)]);
            table.rule("p99 needs 100")
        };
        let [mut first, mut other] = [table([Column::number("n")]), table([Column::number("n")])];
        let (mut said, mut noted) = (Said::default(), Said::default());
        assert_eq!(other.notes(&mut noted)[1], "2 left out; p99 needs 100");
        assert_eq!(other.notes(&mut noted), ["", "2 left out"]);
        first.say_once(&mut said);
        other.say_once(&mut said);
        assert_eq!(
            (first.before(), first.after().as_str()),
            ("times", "2 left out; p99 needs 100")
        );
        assert_eq!((other.before(), other.after().as_str()), ("", "2 left out"));
    }

    #[test]
    fn columns_have_a_common_heading_where_it_spans_them() {
        let columns = [
            Column::code("op"),
            Column::time("q1").under("here"),
            Column::time("median").under("here"),
            Column::time("kvm").under("paper"),
        ];
        let mut table = Table::new("t", "T", columns);
        table.row([Cell::words("x"), Cell::Time(1), Cell::Time(2), Cell::Absent]);
        let groups = table.filled().groups();
        assert_eq!(groups, [("", 1), ("here", 2)], "no column without a value");
        let markdown = table.markdown();
        assert!(
            markdown.starts_with("| op | here q1 | here median | paper kvm |"),
            "{markdown}"
        );
        assert_eq!(
            Table::new("t", "T", [Column::code("op")]).filled().groups(),
            []
        );
    }
}
