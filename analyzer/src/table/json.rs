//! The tables as JSON: addresses, frames and entries as hexadecimal strings.

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
                page.leaf_gfn(index).filter(|_| leaf)
            };
            let entries: Vec<Value> = page
                .entries()
                .filter(|(_, spte)| !spte.is_empty())
                .map(|(index, spte)| value!([index, spte, gfn(index, spte)]))
                .collect();
            let mut parents = tables.parents(page.info.spt).to_vec();
            parents.sort();
            value!({
                "spt": page.info.spt, "level": page.info.level, "gfn": page.info.gfn,
                "role": page.info.role, "direct": page.info.direct, "unsync": page.info.unsync,
                "parents": parents, "present": page.present(), "entries": entries,
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
                        "gva": run.gva, "end": run.end(), "leaves": run.entries,
                        "level": run.level, "rights": flags::rights(run.first),
                        "first_pfn": run.first.pfn(), "adjoining": run.adjoining,
                    })
                })
                .collect();
            let users: Vec<_> = snapshot
                .vm
                .roots()
                .iter()
                .filter(|(_, current)| current.root.table() == *root)
                .map(|(vcpu, current)| value!({"vcpu": vcpu, "cr3": current.cr3}))
                .collect();
            value!({
                "root": root, "pdptes": snapshot.vm.pdptes(*root), "vcpus": users,
                "cut": ranges.cut, "ranges": runs,
            })
        })
        .collect();
    value!({
        "seq": snapshot.seq, "time_ns": snapshot.time,
        "missing_records_since_keyframe": snapshot.missing,
        "totals": {
            "pages": totals.all_pages(), "pages_by_level": totals.pages, "leaves": totals.leaves,
            "links": totals.links, "unsync": totals.unsync,
        },
        "roots": roots, "pages": pages,
    })
}
