//! What changed between two moments.

use std::collections::BTreeMap;

use events::{Hpa, Level, Spte};

use super::{Between, Snapshot, tree};
use crate::text::{
    Grid, flags,
    units::{count, plural},
};

/// A changed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it stands.
    pub place: Hpa,
    /// Level of its table.
    pub level: Level,
    /// Its value at the first moment.
    pub before: Spte,
    /// Its value at the second.
    pub after: Spte,
}

impl Change {
    fn kind(&self) -> &'static str {
        match (
            self.before.is_shadow_present(),
            self.after.is_shadow_present(),
        ) {
            (false, true) => "added",
            (true, false) => "removed",
            _ if self.before.pfn() != self.after.pfn() => "moved",
            _ => "rights",
        }
    }
}

/// Every entry that differs, by place.
pub fn changes(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let present = |snapshot: &Snapshot| -> BTreeMap<Hpa, (Level, Spte)> {
        let pages = snapshot.vm.tables().pages();
        pages
            .flat_map(|page| {
                let entries = page.entries().filter(|(_, spte)| spte.is_shadow_present());
                entries
                    .map(|(index, spte)| (page.place(index), (page.info.level, spte)))
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let (was, is) = (present(before), present(after));
    let mut changes: Vec<Change> = Vec::new();
    for (place, (level, old)) in &was {
        let new = is.get(place).map(|(_, new)| *new).unwrap_or_default();
        if new != *old {
            changes.push(Change {
                place: *place,
                level: *level,
                before: *old,
                after: new,
            });
        }
    }
    for (place, (level, new)) in &is {
        if !was.contains_key(place) {
            changes.push(Change {
                place: *place,
                level: *level,
                before: Spte(0),
                after: *new,
            });
        }
    }
    changes.sort_by_key(|change| change.place);
    changes
}

/// Changed entries listed.
const LISTED: usize = 200;

/// The changes as text.
pub(crate) fn text(before: &Snapshot, after: &Snapshot, between: &Between) -> String {
    let changes = changes(before, after);
    let mut out = format!("from {}to   {}", tree::head(before), tree::head(after));
    let gone = |of: &Snapshot, other: &Snapshot| {
        let lost =
            |page: &&crate::replay::ShadowPage| other.vm.tables().page(page.info.spt).is_none();
        of.vm.tables().pages().filter(lost).count() as u64
    };
    out.push_str(&format!(
        "{} changed; {} made, {} zapped\n",
        plural(changes.len() as u64, "entry"),
        plural(gone(after, before), "page"),
        count(gone(before, after)),
    ));
    out.push_str(&causes(&changes, between));
    let mut grid = Grid::new(&[
        "level", "entry", "change", "cause", "before", "", "after", "",
    ]);
    for change in changes.iter().take(LISTED) {
        grid.row([
            change.level.to_string(),
            change.place.to_string(),
            change.kind().to_owned(),
            between.cause(change).to_owned(),
            format!("{:#x}", change.before.0),
            flags::spte(change.before),
            format!("{:#x}", change.after.0),
            flags::spte(change.after),
        ]);
    }
    if !grid.is_empty() {
        out.push('\n');
        out.push_str(&grid.text(2));
    }
    if changes.len() > LISTED {
        out.push_str(&format!(
            "  and {} more; --json lists all\n",
            count((changes.len() - LISTED) as u64)
        ));
    }
    out
}

/// How many entries each cause changed, and how.
fn causes(changes: &[Change], between: &Between) -> String {
    let mut causes: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for change in changes {
        let kinds = causes.entry(between.cause(change)).or_default();
        *kinds.entry(change.kind()).or_default() += 1;
    }
    let mut grid = Grid::new(&["cause", ">added", ">removed", ">moved", ">rights"]);
    for (cause, kinds) in causes {
        let number = |kind: &str| count(kinds.get(kind).copied().unwrap_or_default());
        grid.row([
            cause.to_owned(),
            number("added"),
            number("removed"),
            number("moved"),
            number("rights"),
        ]);
    }
    match grid.is_empty() {
        true => String::new(),
        false => grid.text(2),
    }
}

/// The changes as JSON.
pub(crate) fn json(before: &Snapshot, after: &Snapshot, between: &Between) -> serde_json::Value {
    let changes: Vec<_> = changes(before, after)
        .iter()
        .map(|change| {
            serde_json::json!({
                "sptep": change.place.0, "level": change.level.0, "change": change.kind(),
                "cause": between.cause(change), "before": change.before.0, "after": change.after.0,
            })
        })
        .collect();
    serde_json::json!({
        "from_ns": before.time.0, "from_seq": before.seq.0, "to_ns": after.time.0, "to_seq": after.seq.0,
        "changes": changes,
    })
}
