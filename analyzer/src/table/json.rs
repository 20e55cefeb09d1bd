//! The tables as JSON.

use events::{Hpa, Spte};
use serde_json::{Value, json as value};

use super::Snapshot;
use crate::text::flags;

/// Totals, the ranges of each of `roots`, and every page with its entries.
pub fn json(snapshot: &Snapshot, roots: &[Hpa]) -> Value {
    let tables = snapshot.vm.tables();
    let totals = tables.totals();
    let pages: Vec<Value> = tables
        .sorted_pages()
        .iter()
        .map(|page| {
            let gfn = |index: u16, spte: Spte| {
                let leaf = spte.is_leaf(page.info.level);
                page.leaf_gfn(index).filter(|_| leaf).map(|gfn| gfn.0)
            };
            let entries: Vec<Value> = page
                .entries()
                .filter(|(_, spte)| !spte.is_empty())
                .map(|(index, spte)| value!([index, spte.0, gfn(index, spte)]))
                .collect();
            let mut parents: Vec<u64> = tables
                .parents(page.info.spt)
                .iter()
                .map(|place| place.0)
                .collect();
            parents.sort();
            value!({
                "spt": page.info.spt.0, "level": page.info.level.0, "gfn": page.info.gfn.0,
                "role": page.info.role.0, "direct": page.info.direct, "unsync": page.info.unsync,
                "parents": parents,
                "present": page.present(), "entries": entries,
            })
        })
        .collect();
    let roots: Vec<Value> = roots
        .iter()
        .map(|root| {
            let ranges = snapshot.vm.ranges(*root);
            let runs: Vec<_> = ranges
                .runs
                .iter()
                .map(|run| {
                    value!({
                        "gva": run.gva.0, "end": run.end().0, "leaves": run.entries, "level": run.level.0,
                        "rights": flags::rights(run.first), "first_pfn": run.first.pfn().0,
                        "adjoining": run.adjoining,
                    })
                })
                .collect();
            let users: Vec<_> = snapshot
                .vm
                .roots()
                .iter()
                .filter(|(_, current)| current.root.table() == *root)
                .map(|(vcpu, current)| value!({"vcpu": vcpu.0, "cr3": current.cr3.0}))
                .collect();
            let pdptes = snapshot.vm.pdptes(*root).map(|pdptes| pdptes.map(|table| table.map(|table| table.0)));
            value!({"root": root.0, "pdptes": pdptes, "vcpus": users, "cut": ranges.cut, "ranges": runs})
        })
        .collect();
    value!({
        "seq": snapshot.seq.0, "time_ns": snapshot.time.0, "missing_records_since_keyframe": snapshot.missing,
        "totals": {
            "pages": totals.all_pages(), "pages_by_level": totals.pages, "leaves": totals.leaves,
            "links": totals.links, "unsync": totals.unsync,
        },
        "roots": roots, "pages": pages,
    })
}
