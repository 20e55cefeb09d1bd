//! A timeline as a table, a line a stretch of time.

use super::Show;
use crate::{
    figures::{Bin, Timeline},
    text::{Grid, plain, units::count},
};

/// The table with at most `lines` lines; those that reach into a stretch of `lost` say so.
pub(super) fn lines(timeline: &Timeline, show: Show, lines: usize, lost: &[[u64; 2]]) -> String {
    let bins = timeline.bins();
    let together = bins.len().div_ceil(lines.max(1)).max(1);
    let seconds = timeline.bin_ns() as f64 * together as f64 / 1e9;
    let most = bins.chunks(together).map(faults).max().unwrap_or_default();
    let columns = Columns {
        timeline,
        show,
        seconds,
        most: most.max(1),
    };
    let mut head = vec![">from".to_owned()];
    head.extend(columns.head());
    head.push("phase that begins".to_owned());
    let mut grid = Grid::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    for chunk in bins.chunks(together) {
        let (Some((from, _)), Some((_, last))) = (chunk.first(), chunk.last()) else {
            continue;
        };
        let mut cells = vec![format!("{from:.4} s")];
        cells.extend(columns.cells(chunk, last));
        cells.push(words(timeline, *from, seconds, lost));
        grid.row(cells);
    }
    grid.text(2)
}

/// What stands between the time and the phase.
struct Columns<'a> {
    timeline: &'a Timeline,
    show: Show,
    /// Length of a line.
    seconds: f64,
    /// Most faults of a line.
    most: u64,
}

impl Columns<'_> {
    fn head(&self) -> Vec<String> {
        match self.show {
            Show::Faults => [
                ">faults",
                ">faults/s",
                ">pages",
                ">leaves",
                ">unsync",
                ">changes",
                "",
            ]
            .map(str::to_owned)
            .to_vec(),
            Show::Levels => {
                let levels = (1..=self.timeline.levels()).rev();
                let mut head: Vec<_> = levels
                    .flat_map(|level| [format!(">L{level} pages"), ">entries".to_owned()])
                    .collect();
                head.extend(
                    [">leaves", ">links", ">unsync", ">made", ">zapped"].map(str::to_owned),
                );
                head
            }
            Show::Causes => {
                let classes = self
                    .timeline
                    .classes()
                    .into_iter()
                    .map(|class| class.name());
                let causes = self.timeline.causes().into_iter().map(|cause| cause.name());
                let mut head: Vec<_> = classes.map(|name| format!(">{name}")).collect();
                // A class and a cause may have the same name.
                head.push("|".to_owned());
                head.extend(causes.map(|name| format!(">{name}")));
                head.extend([">zapped"].map(str::to_owned));
                head
            }
        }
    }

    fn cells(&self, chunk: &[(f64, Bin)], last: &Bin) -> Vec<String> {
        let sum = |of: &dyn Fn(&Bin) -> u64| count(chunk.iter().map(|(_, bin)| of(bin)).sum());
        let totals = &last.totals;
        match self.show {
            Show::Faults => {
                let faults = faults(chunk);
                vec![
                    count(faults),
                    count((faults as f64 / self.seconds) as u64),
                    count(totals.all_pages()),
                    count(totals.leaves),
                    count(totals.unsync),
                    sum(&|bin| bin.changes.values().sum()),
                    "#".repeat((faults * 20).div_ceil(self.most).min(20) as usize),
                ]
            }
            Show::Levels => {
                let levels = totals.pages.iter().zip(&totals.present);
                let levels = levels.take(self.timeline.levels()).rev();
                let mut cells: Vec<_> = levels
                    .flat_map(|(pages, entries)| [count(*pages), count(*entries)])
                    .collect();
                cells.extend([totals.leaves, totals.links, totals.unsync].map(count));
                cells.extend([sum(&|bin| bin.made), sum(&|bin| bin.zapped)]);
                cells
            }
            Show::Causes => {
                let classes = self.timeline.classes();
                let mut cells: Vec<_> = classes
                    .iter()
                    .map(|class| sum(&|bin| bin.faults.get(class).copied().unwrap_or_default()))
                    .collect();
                cells.push("|".to_owned());
                let causes = self.timeline.causes();
                cells.extend(
                    causes.iter().map(|cause| {
                        sum(&|bin| bin.changes.get(cause).copied().unwrap_or_default())
                    }),
                );
                cells.push(sum(&|bin| bin.zapped));
                cells
            }
        }
    }
}

/// Phases that begin in a line, and whether records are missing.
fn words(timeline: &Timeline, from: f64, seconds: f64, lost: &[[u64; 2]]) -> String {
    let begins = |time: f64| time >= from && time < from + seconds;
    let phases = timeline
        .phases
        .iter()
        .filter(|phase| begins(timeline.seconds(phase.time_ns)));
    let mut words: Vec<_> = phases.map(|phase| plain(&phase.name)).collect();
    let missing = lost.iter().any(|[first, last]| {
        timeline.seconds(*first) < from + seconds && timeline.seconds(*last) >= from
    });
    if missing {
        words.push("RECORDS MISSING".to_owned());
    }
    words.join(", ")
}

fn faults(chunk: &[(f64, Bin)]) -> u64 {
    chunk.iter().flat_map(|(_, bin)| bin.faults.values()).sum()
}
