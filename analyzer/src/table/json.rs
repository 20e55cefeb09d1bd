//! The tables as JSON: addresses, frames and entries as hexadecimal strings.

use events::{Hpa, Spte};
use serde_json::{Value, json as value};

use super::Snapshot;
use crate::{
    replay::{Run, ShadowPage, ShadowTables},
    text::flags,
};

/// Totals, the ranges of each of `roots`, and every page with its entries.
pub fn json(snapshot: &Snapshot, roots: &[Hpa]) -> Value {
    let tables = snapshot.vm.tables();
    let totals = tables.totals();
    let pages = tables.sorted_pages();
    let pages: Vec<_> = pages.iter().map(|page| of_page(tables, page)).collect();
    let roots: Vec<_> = roots.iter().map(|root| of_root(snapshot, *root)).collect();
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

fn of_page(tables: &ShadowTables, page: &ShadowPage) -> Value {
    let gfn = |index: u16, spte: Spte| {
        let leaf = spte.is_leaf(page.info.level);
        page.leaf_gfn(index).filter(|_| leaf)
    };
    let entries: Vec<_> = page
        .entries()
        .filter(|(_, spte)| !spte.is_empty())
        .map(|(index, spte)| value!({"index": index, "spte": spte, "gfn": gfn(index, spte)}))
        .collect();
    let mut parents = tables.parents(page.info.spt).to_vec();
    parents.sort();
    value!({
        "spt": page.info.spt, "level": page.info.level, "gfn": page.info.gfn,
        "role": page.info.role, "direct": page.info.direct, "unsync": page.info.unsync,
        "parents": parents, "present": page.present(), "entries": entries,
    })
}

fn of_root(snapshot: &Snapshot, root: Hpa) -> Value {
    let ranges = snapshot.vm.ranges(root);
    let run = |run: &Run| {
        value!({
            "gva": run.gva, "end": run.end(), "leaves": run.entries, "level": run.level,
            "rights": flags::rights(run.first), "first_pfn": run.first.pfn(),
            "adjoining": run.adjoining,
        })
    };
    let users = snapshot.vm.roots().iter();
    let users: Vec<_> = users
        .filter(|(_, current)| current.root.table() == root)
        .map(|(vcpu, current)| value!({"vcpu": vcpu, "cr3": current.cr3}))
        .collect();
    value!({
        "root": root, "pdptes": snapshot.vm.pdptes(root), "vcpus": users, "cut": ranges.cut,
        "ranges": ranges.runs.iter().map(run).collect::<Vec<_>>(),
    })
}
