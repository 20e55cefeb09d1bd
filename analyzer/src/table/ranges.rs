//! What each root maps, as ranges of addresses.

use events::Hpa;

use super::{Snapshot, tree};
use crate::text::{
    Grid, flags,
    units::{count, page_size, plural},
};

/// The ranges of each of `roots`.
pub fn ranges(snapshot: &Snapshot, roots: &[Hpa]) -> String {
    let mut out = tree::head(snapshot);
    for root in roots {
        let ranges = snapshot.vm.ranges(*root);
        out.push_str(&format!("{}\n", tree::title(snapshot, *root)));
        let mut grid = Grid::new(&["from", "to", ">leaves", "size", "rights", "frames"]);
        for run in &ranges.runs {
            let frames = if run.entries == 1 {
                run.first.pfn().to_string()
            } else if run.adjoining {
                format!("{} and on", run.first.pfn())
            } else {
                format!("{} and others", run.first.pfn())
            };
            grid.row([
                run.gva.to_string(),
                run.end().to_string(),
                count(run.entries),
                page_size(run.level.pages()),
                flags::rights(run.first),
                frames,
            ]);
        }
        if grid.is_empty() {
            out.push_str("  maps nothing\n");
        } else {
            out.push_str(&grid.text(2));
            let pages: u64 = ranges.runs.iter().map(|run| run.pages()).sum();
            out.push_str(&format!(
                "  {} of 4K in {}\n",
                plural(pages, "page"),
                plural(ranges.runs.len() as u64, "range")
            ));
        }
        if ranges.cut {
            out.push_str("  ... cut: its tables share so many pages that the list would not end\n");
        }
    }
    out
}
