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
            Column::words("paging"),
            Column::number("all exits"),
            Column::number("faults that KVM resolved"),
            Column::number("faults passed on to the guest"),
            Column::number("others"),
        ];
        let mut table = Table::new("exits", "", columns);
        for run in &self.runs {
            table.row([
                Cell::words(&run.guest),
                Cell::words(if run.nested_paging { "NPT" } else { "shadow" }),
                Cell::Count(run.exits),
                Cell::Count(run.pf_taken.saturating_sub(run.pf_guest)),
                Cell::Count(run.pf_guest),
                Cell::Count(run.exits.saturating_sub(run.pf_taken)),
            ]);
        }
        table
    }

    /// How many pages each run touches, where that is one number.
    pub fn pages(&self) -> Option<String> {
        let pages = self.runs.first()?.pages;
        let is_one = self.runs.iter().all(|run| run.pages == pages);
        is_one.then(|| count(pages))
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
        pairs
            .flat_map(|(shadow, nested)| answer(shadow, nested))
            .collect()
    }
}

fn answer(shadow: &Run, nested: &Run) -> Vec<String> {
    let guest = &shadow.guest;
    let both = format!(
        "{guest}: {} with a shadow table, {} with NPT.",
        plural(shadow.exits, "exit"),
        count(nested.exits)
    );
    if shadow.pf_guest == 0 {
        return vec![format!(
            "{both} Its own table is filled before, so nearly all of them are one fault a page, \
             with both: the hypervisor has to give the page a frame."
        )];
    }
    let left = shadow.exits.saturating_sub(shadow.pf_guest);
    vec![
        format!(
            "{both} Of the {}, {} are faults of a page that the guest's own table does not have \
             yet, which KVM passes on. With NPT the processor gives such a fault to the guest's \
             kernel itself.",
            count(shadow.exits),
            count(shadow.pf_guest)
        ),
        format!(
            "Do the stores to the guest's table exit as well, as in the lecture's step 1? Hardly \
             any: without the faults passed on, {} are left, and each of {} needs one for its \
             shadow entry. So at most {} can be stores: KVM lets the guest write its tables of \
             level 1 freely (unsync).",
            plural(left, "exit"),
            plural(shadow.pages, "page"),
            count(left.saturating_sub(shadow.pages))
        ),
    ]
}
