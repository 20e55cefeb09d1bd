//! Mappings as a table, and for programs.

use serde_json::{Value, json};

use super::{Find, Mapping, Moment, Target};
use crate::{
    replay::Gaps,
    text::{Cell, Column, Table, units::plural},
};

/// The mappings of one VM, of which people are shown the first `first`.
pub fn table(find: &Find, target: Target, first: usize, start_ns: u64) -> Table {
    let other = match target {
        Target::Pfn(_) => "gfn",
        Target::Gva(_) | Target::Gfn(_) => "pfn",
    };
    // The title has the address that was asked for.
    let asks_gva = matches!(target, Target::Gva(_));
    let mut columns = vec![Column::time("from"), Column::time("until")];
    if !asks_gva {
        columns.push(Column::code("gva"));
    }
    columns.extend([
        Column::code("access"),
        Column::code(other),
        Column::words("mapped by seq"),
        Column::words("ended by seq"),
        Column::words("through"),
    ]);
    let title = format!("Mappings of {}", target.name());
    let mut table = Table::new("mappings", title, columns).first(first);
    let at = |moment: &Moment| Cell::At(moment.time_ns.0.saturating_sub(start_ns));
    for mapping in find.mappings() {
        let frame = match target {
            Target::Pfn(_) => mapping.gfn.map(|gfn| gfn.0),
            Target::Gva(_) | Target::Gfn(_) => Some(mapping.pfn().0),
        };
        let until = mapping.until.as_ref();
        let mut cells = vec![at(&mapping.from), until.map_or(Cell::Absent, at)];
        if !asks_gva {
            let gva = mapping.gva();
            cells.push(gva.map_or(Cell::Absent, |gva| Cell::Address(gva.0)));
        }
        cells.extend([
            Cell::words(mapping.rights()),
            frame.map_or(Cell::Absent, Cell::Address),
            Cell::words(mapping.from.words()),
            until.map_or(Cell::Absent, |until| Cell::words(until.words())),
            Cell::words(through(mapping)),
        ]);
        table.row(cells);
    }
    table.more(more(find))
}

/// The entry, and whose tables it is in. `--json` has the root too.
fn through(mapping: &Mapping) -> String {
    let (table, index) = (mapping.sptep.table(), mapping.sptep.index());
    let level = mapping.level.0;
    let whose = match (mapping.cr3, mapping.path) {
        (Some(cr3), _) => format!("cr3 {cr3}"),
        (None, Some(path)) => format!("root {}", path.root),
        (None, None) => "no root leads there".to_owned(),
    };
    format!("{table}[{index}] level {level}, {whose}")
}

fn more(find: &Find) -> String {
    let all = find.mappings().count() as u64;
    if all == 0 {
        return "no mapping of it was seen".to_owned();
    }
    let live = find.mappings().filter(|mapping| mapping.until.is_none());
    let cut = match find.cut() {
        Some(seq) => format!("; more were not followed from seq {} on", seq.0),
        None => String::new(),
    };
    format!(
        "{}, {} of them without an end in the trace{cut}",
        plural(all, "mapping"),
        live.count()
    )
}

/// The mappings of one VM. Times are ns from the start of the trace.
pub fn json(find: &Find, gaps: &Gaps, start_ns: u64) -> Value {
    let mappings: Vec<_> = find
        .mappings()
        .map(|of| mapping(of, gaps, start_ns))
        .collect();
    json!({"mappings": mappings, "not_followed_from_seq": find.cut()})
}

fn mapping(of: &Mapping, gaps: &Gaps, start_ns: u64) -> Value {
    let moment = |moment: &Moment| {
        json!({
            "seq": moment.seq, "at_ns": moment.time_ns.0.saturating_sub(start_ns),
            "vcpu": moment.vcpu, "act": moment.act,
        })
    };
    let last = of.until.map_or(events::Seq(u64::MAX), |until| until.seq);
    json!({
        "gva": of.gva(), "root": of.path.map(|path| path.root), "cr3": of.cr3,
        "sptep": of.sptep, "spte": of.spte, "level": of.level, "pages": of.level.pages(),
        "access": of.rights(), "gfn": of.gfn, "pfn": of.pfn(),
        "from": moment(&of.from), "until": of.until.as_ref().map(moment),
        // What is missing may have ended it, or changed its access.
        "missing_records": gaps.missing_between(of.from.seq, last),
    })
}
