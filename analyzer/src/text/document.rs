//! What a command prints: sections with tables, in the form that was asked for.

use super::{Said, Table, wrap};

/// A part of a [`Document`], about one VM where a trace has several.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// The VM's number; the first column of CSV.
    pub vm: Option<u16>,
    /// Its heading.
    pub title: String,
    /// Sentences below the heading.
    pub lines: Vec<String>,
    /// Its tables. People are not shown the blank ones.
    pub tables: Vec<Table>,
}

/// Sections between some sentences.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Sentences above all sections.
    pub head: Vec<String>,
    /// Each VM.
    pub sections: Vec<Section>,
    /// Sentences below all sections.
    pub tail: Vec<String>,
}

/// Name, head and rows of a table in CSV.
type Block<'a> = (&'a str, Vec<String>, Vec<Vec<String>>);

impl Document {
    /// Keeps the tables of this name only, and nothing else.
    pub fn only(mut self, name: &str) -> Self {
        self.head.clear();
        self.tail.clear();
        for section in &mut self.sections {
            section.lines.clear();
            section.tables.retain(|table| table.name() == name);
        }
        self.sections.retain(|section| !section.tables.is_empty());
        self
    }

    /// Names of the tables, each once.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for table in self.tables().map(|(_, table)| table) {
            if !names.contains(&table.name()) {
                names.push(table.name());
            }
        }
        names
    }

    fn tables(&self) -> impl Iterator<Item = (Option<u16>, &Table)> {
        self.sections.iter().flat_map(|section| {
            let tables = section.tables.iter();
            tables.map(|table| (section.vm, table))
        })
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut said = Said::default();
        let paragraph = |text: &str, indent| wrap(text, indent, &format!("{indent}  ")) + "\n";
        let mut out = String::new();
        for line in &self.head {
            out += &paragraph(line, "");
        }
        for section in &self.sections {
            let gap = if out.is_empty() { "" } else { "\n" };
            out += &format!("{gap}{}", paragraph(&section.title, ""));
            for line in &section.lines {
                out += &paragraph(line, "  ");
            }
            for table in section.tables.iter().filter(|table| !table.is_blank()) {
                let [before, after] = table.notes(&mut said);
                if !table.title().is_empty() {
                    out += &format!("\n{}", paragraph(table.title(), "  "));
                }
                if !before.is_empty() {
                    out += &paragraph(&before, "  ");
                }
                if !table.is_empty() {
                    out += &table.grid().text(2);
                }
                if !after.is_empty() {
                    out += &paragraph(&after, "  ");
                }
            }
        }
        if !self.tail.is_empty() {
            out += "\n";
        }
        for line in &self.tail {
            out += &paragraph(line, "");
        }
        out
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut said = Said::default();
        let mut parts = self.head.clone();
        for section in &self.sections {
            parts.push(format!("## {}", section.title));
            parts.extend(section.lines.iter().cloned());
            for table in section.tables.iter().filter(|table| !table.is_blank()) {
                let [before, after] = table.notes(&mut said);
                parts.push(format!("### {}", table.title()));
                parts.push(before);
                parts.push(table.markdown());
                parts.push(after);
            }
        }
        parts.extend(self.tail.iter().cloned());
        let parts = parts.iter().map(|part| part.trim_end());
        let parts: Vec<_> = parts
            .filter(|part| !part.is_empty() && *part != "###")
            .collect();
        parts.join("\n\n") + "\n"
    }

    /// As CSV. Tables of one name and head are one, whose first column is the VM. Where there
    /// are several, each has a line `# NAME` above it.
    pub fn csv(&self) -> String {
        let mut blocks: Vec<Block> = Vec::new();
        for (vm, table) in self.tables() {
            let vm = vm.map(|vm| vm.to_string());
            let keys = table.columns().iter().map(|column| column.key());
            let head: Vec<_> = vm.iter().map(|_| "vm".to_owned()).chain(keys).collect();
            let rows = table
                .values()
                .map(|row| vm.iter().cloned().chain(row).collect::<Vec<_>>());
            match blocks
                .iter_mut()
                .find(|(name, other, _)| *name == table.name() && *other == head)
            {
                Some((.., known)) => known.extend(rows),
                None => {
                    let rows = rows.collect();
                    blocks.push((table.name(), head, rows));
                }
            }
        }
        let mut text = String::new();
        for (number, (name, head, rows)) in blocks.iter().enumerate() {
            if blocks.len() > 1 {
                let gap = if number > 0 { "\n" } else { "" };
                text += &format!("{gap}# {name}\n");
            }
            for row in std::iter::once(head).chain(rows) {
                let cells: Vec<_> = row.iter().map(|cell| quoted(cell)).collect();
                text += &(cells.join(",") + "\n");
            }
        }
        text
    }
}

/// A cell of CSV (RFC 4180). The `csv` crate would have polars built with other features.
fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cell, Column};
    use super::*;

    fn document() -> Document {
        let section = |vm| {
            let columns = [
                Column::words("class"),
                Column::time("total"),
                Column::share("share"),
            ];
            let mut table = Table::new("classes", "Cost by class", columns).first(1);
            table.row([
                Cell::words("a|b, \"c\""),
                Cell::Time(1_500),
                Cell::Share(1, 3),
            ]);
            table.row([Cell::words("d\u{1b}"), Cell::Absent, Cell::Share(0, 0)]);
            Section {
                vm: Some(vm),
                title: format!("VM {vm}"),
                lines: vec!["seen".to_owned()],
                tables: vec![table, Table::new("empty", "Nothing", [Column::words("x")])],
            }
        };
        Document {
            head: vec!["head".to_owned()],
            sections: vec![section(0), section(1)],
            tail: vec!["tail".to_owned()],
        }
    }

    #[test]
    fn each_form_has_the_same_tables() {
        let document = document();
        assert_eq!(document.names(), ["classes", "empty"]);
        let text = "head\n\nVM 0\n  seen\n\n  Cost by class\n  class       total  share\n  \
                    a|b, \"c\"  1.50 us  33.3%\n  and 1 row more\n\nVM 1\n";
        assert!(document.text().starts_with(text), "{}", document.text());
        assert!(document.text().ends_with("\n\ntail\n"));
        let markdown = "head\n\n## VM 0\n\nseen\n\n### Cost by class\n\n\
                        | class | total | share |\n| --- | ---: | ---: |\n\
                        | a\\|b, \"c\" | 1.50 us | 33.3% |\n\nand 1 row more\n";
        assert!(
            document.markdown().starts_with(markdown),
            "{}",
            document.markdown()
        );
    }

    #[test]
    fn csv_has_every_row_of_every_vm_in_plain_numbers() {
        let csv = document().only("classes").csv();
        let rows = "vm,class,total_ns,share_percent\n0,\"a|b, \"\"c\"\"\",1500,33.3333\n\
                    0,d\u{fffd},,0.0000\n1,";
        assert!(csv.starts_with(rows), "{csv}");
        assert_eq!(csv.lines().count(), 5);
        let csv = document().csv();
        assert!(csv.starts_with("# classes\nvm,"), "{csv}");
        assert!(csv.ends_with("\n\n# empty\nvm,x\n"), "{csv}");
    }
}
