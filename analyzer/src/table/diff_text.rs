//! What changed between two moments, as text and as JSON.

use std::collections::BTreeMap;

use super::{
    Between, EntryChange, Snapshot, changes,
    folded::{ChangeRun, runs},
    tree,
};
use crate::{
    replay::ShadowPage,
    text::{
        Grid, Kind, flags,
        units::{count, plural},
    },
};

/// Lines listed.
const LISTED: usize = 200;

/// The changes as text.
pub(crate) fn changes_text(before: &Snapshot, after: &Snapshot, between: &Between) -> String {
    let changes = changes(before, after);
    let mut out = format!("from {}to   {}", tree::head(before), tree::head(after));
    let gone = |of: &Snapshot, other: &Snapshot| {
        let lost = |page: &&ShadowPage| other.vm.tables().page(page.info.spt).is_none();
        of.vm.tables().pages().filter(lost).count() as u64
    };
    out.push_str(&format!(
        "{} made, {} zapped\n",
        plural(gone(after, before), "page"),
        count(gone(before, after)),
    ));
    let runs = runs(&changes, between);
    if !runs.is_empty() {
        out.push('\n');
        out.push_str(&list(&runs));
    }
    out.push('\n');
    out.push_str(&total(&changes, between));
    out
}

fn list(runs: &[ChangeRun]) -> String {
    let columns = [
        ("gva", Kind::Code),
        ("level", Kind::Code),
        ("entries", Kind::Number),
        ("change", Kind::Code),
        ("cause", Kind::Code),
        ("rights", Kind::Words),
        ("gfn", Kind::Words),
        ("pfn", Kind::Words),
    ];
    let mut grid = Grid::of(columns.map(|(name, kind)| (name.to_owned(), kind)));
    for run in runs.iter().take(LISTED) {
        let first = &run.first;
        let gfn = first.gfn.map(|gfn| run.gfns.words(gfn));
        grid.row([
            first.gva().map_or_else(
                || format!("no root, {}", first.place),
                |gva| gva.to_string(),
            ),
            first.level.to_string(),
            count(run.entries),
            first.kind().to_owned(),
            run.cause.to_owned(),
            rights(first),
            gfn.unwrap_or_default(),
            run.pfns.words(first.present().pfn()),
        ]);
    }
    let mut out = grid.text(2);
    if runs.len() > LISTED {
        out.push_str(&format!(
            "  and {} more lines; --json lists every entry\n",
            count((runs.len() - LISTED) as u64)
        ));
    }
    out
}

/// The entry's bits; both values where they differ and both are present.
fn rights(change: &EntryChange) -> String {
    let both = change.before.is_shadow_present() && change.after.is_shadow_present();
    let (before, after) = (flags::spte(change.before), flags::spte(change.after));
    match both && before != after {
        true => format!("{before} > {after}"),
        false => flags::spte(change.present()),
    }
}

/// How many entries each cause changed, and how.
fn total(changes: &[EntryChange], between: &Between) -> String {
    let mut causes: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    for change in changes {
        let kinds = causes.entry(between.cause(change)).or_default();
        *kinds.entry(change.kind()).or_default() += 1;
        *all.entry(change.kind()).or_default() += 1;
    }
    let mut grid = Grid::new(&[
        "cause", ">added", ">removed", ">moved", ">rights", ">entries",
    ]);
    for (cause, kinds) in causes.iter().chain([(&"total", &all)]) {
        let number = |kind: &str| count(kinds.get(kind).copied().unwrap_or_default());
        grid.row([
            (*cause).to_owned(),
            number("added"),
            number("removed"),
            number("moved"),
            number("rights"),
            count(kinds.values().sum()),
        ]);
    }
    grid.text(2)
}

/// The changes as JSON.
pub(crate) fn changes_json(
    before: &Snapshot,
    after: &Snapshot,
    between: &Between,
) -> serde_json::Value {
    let changes: Vec<_> = changes(before, after)
        .iter()
        .map(|change| {
            serde_json::json!({
                "gva": change.gva(), "root": change.way.map(|(root, _)| root),
                "gfn": change.gfn, "sptep": change.place, "level": change.level,
                "change": change.kind(), "cause": between.cause(change),
                "before": change.before, "after": change.after,
            })
        })
        .collect();
    serde_json::json!({
        "from_ns": before.time, "from_seq": before.seq,
        "to_ns": after.time, "to_seq": after.seq,
        "changes": changes,
    })
}
