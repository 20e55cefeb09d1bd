//! The tables as JSON: addresses, frames and entries as hexadecimal strings.
//!
//! The lists are made while they are written: each may be much longer than the trace.

use events::{Gfn, Gva, Hpa, Level, Pfn, Role, Seq, Spte, TimeNs};
use serde::{Serialize, Serializer};
use serde_json::{Value, json as value};

use super::{Snapshot, tree::Users};
use crate::{
    replay::{FrameOrder, Run, ShadowPage, ShadowTables},
    text::flags,
};

/// A list whose elements are made one after the other.
struct Each<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

#[derive(Serialize)]
struct Tables<R, P> {
    seq: Seq,
    time_ns: TimeNs,
    missing_records_since_keyframe: u64,
    totals: Value,
    roots: R,
    pages: P,
}

/// Totals, the ranges of each of `roots`, and every page with its entries. There is a bound for the
/// ranges of all roots together: see [`crate::replay::RangesOf`].
pub fn json<'a>(snapshot: &'a Snapshot, roots: &'a [Hpa]) -> impl Serialize + 'a {
    let tables = snapshot.vm.tables();
    let totals = tables.totals();
    let users = Users::of(snapshot);
    Tables {
        seq: snapshot.seq,
        time_ns: snapshot.time,
        missing_records_since_keyframe: snapshot.missing,
        totals: value!({
            "pages": totals.all_pages(), "pages_by_level": totals.pages, "leaves": totals.leaves,
            "links": totals.links, "unsync": totals.unsync,
        }),
        roots: Each(move || {
            let users = users.clone();
            let mut ranges = snapshot.vm.ranges();
            roots.iter().map(move |root| {
                let ranges = ranges.root(*root);
                let users = users.get(*root).iter();
                Root {
                    root: *root,
                    pdptes: value!(snapshot.vm.pdptes(*root)),
                    vcpus: users
                        .map(|(vcpu, cr3)| value!({"vcpu": vcpu, "cr3": cr3}))
                        .collect(),
                    cut: ranges.cut,
                    ranges: ranges.runs.iter().map(Range::of).collect(),
                }
            })
        }),
        pages: Each(move || {
            let pages = tables.sorted_pages().into_iter();
            pages.map(move |page| Page::of(tables, page))
        }),
    }
}

#[derive(Serialize)]
struct Root {
    root: Hpa,
    pdptes: Value,
    vcpus: Vec<Value>,
    cut: bool,
    ranges: Vec<Range>,
}

#[derive(Serialize)]
struct Range {
    gva: Gva,
    end: Gva,
    leaves: u64,
    level: Level,
    rights: String,
    first_pfn: Pfn,
    adjoining: bool,
}

impl Range {
    fn of(run: &Run) -> Self {
        Self {
            gva: run.gva,
            end: run.end(),
            leaves: run.entries,
            level: run.level,
            rights: flags::rights(run.first),
            first_pfn: run.first.pfn(),
            adjoining: matches!(run.frames, FrameOrder::One | FrameOrder::Adjoin),
        }
    }
}

#[derive(Serialize)]
struct Page {
    spt: Hpa,
    level: Level,
    gfn: Gfn,
    role: Role,
    direct: bool,
    unsync: bool,
    parents: Vec<Hpa>,
    present: u32,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    index: u16,
    spte: Spte,
    gfn: Option<Gfn>,
}

impl Page {
    fn of(tables: &ShadowTables, page: &ShadowPage) -> Self {
        let info = page.info;
        let entries = page.entries().filter(|(_, spte)| !spte.is_empty());
        let entries = entries.map(|(index, spte)| Entry {
            index,
            spte,
            gfn: page.leaf_gfn(index).filter(|_| spte.is_leaf(info.level)),
        });
        let mut parents = tables.parents(info.spt).to_vec();
        parents.sort();
        Self {
            spt: info.spt,
            level: info.level,
            gfn: info.gfn,
            role: info.role,
            direct: info.direct,
            unsync: info.unsync,
            parents,
            present: page.present(),
            entries: entries.collect(),
        }
    }
}
