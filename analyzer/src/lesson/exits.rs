//! Exits of the same guests with shadow paging and with two-dimensional paging, as KVM counted
//! them without any probe.

use serde::Deserialize;

use crate::text::{
    Cell, Column, Table,
    units::{count, plural},
};

/// Runs of the guests on one kernel, with their source.
#[derive(Clone, Debug, Deserialize)]
pub struct Exits {
    /// When, a date.
    pub recorded: String,
    /// Kernel and machine.
    pub kernel: String,
    /// What was run.
    pub command: String,
    /// The runs.
    pub runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    /// The workload.
    pub guest: String,
    /// Pages that it touches.
    pub pages: u64,
    /// The processor walked both tables (NPT).
    pub nested_paging: bool,
    /// All exits.
    pub exits: u64,
    /// Page faults that KVM took.
    pub pf_taken: u64,
    /// Those that KVM passed on to the guest: its own tables refuse the access.
    pub pf_guest: u64,
}

impl Exits {
    /// Those that come with the program.
    pub fn shipped() -> Result<Self, serde_json::Error> {
        serde_json::from_str(include_str!("recordings/exits.json"))
    }

    /// The runs.
    pub fn table(&self) -> Table {
        let columns = [
            Column::words("guest"),
            Column::number("pages"),
            Column::words("paging"),
            Column::number("exits"),
            Column::number("of them page faults"),
            Column::number("passed on to the guest"),
        ];
        let mut table = Table::new("exits", "", columns);
        for run in &self.runs {
            table.row([
                Cell::words(&run.guest),
                Cell::Count(run.pages),
                Cell::words(if run.nested_paging { "NPT" } else { "shadow" }),
                Cell::Count(run.exits),
                Cell::Count(run.pf_taken),
                Cell::Count(run.pf_guest),
            ]);
        }
        table
    }

    /// What the two ways of each guest differ by.
    pub fn answers(&self) -> Vec<String> {
        let shadow = self.runs.iter().filter(|run| !run.nested_paging);
        let pairs = shadow.filter_map(|shadow| {
            let nested = self.runs.iter().find(|run| {
                run.nested_paging && (&run.guest, run.pages) == (&shadow.guest, shadow.pages)
            });
            Some((shadow, nested?))
        });
        let answer = |(shadow, nested): (&Run, &Run)| {
            let passed_on = match shadow.pf_guest {
                0 => String::new(),
                own => format!(
                    "; {} of the faults were the guest's own, which do not exit with NPT. That \
                     leaves {} for the first access to {}, for the guest's stores to its tables \
                     (one a page), and for the rest",
                    count(own),
                    plural(shadow.exits.saturating_sub(own), "exit"),
                    plural(shadow.pages, "page"),
                ),
            };
            format!(
                "{}: {} with shadow paging, {} with NPT{passed_on}.",
                shadow.guest,
                plural(shadow.exits, "exit"),
                count(nested.exits),
            )
        };
        pairs.map(answer).collect()
    }
}
