//! The same as text.

use super::{
    Growth, PAGE_BYTES, Snapshot,
    growth::BINS,
    report::{
        BinReport, LevelEvents, LevelPages, MemoryReport, MomentReport, VmMemory, events, levels,
    },
};
use crate::text::{
    Cell, Column, Document, Section, Table,
    units::{bytes, count, plural},
};

/// Roots, duplicates and bins that people are shown.
const SHOWN: usize = 12;

/// Pages by level at the peak, and their events.
pub fn table(growth: &Growth) -> Table {
    let title =
        "Memory: shadow pages at the moment with the most, and events of the whole recording";
    level_table(title, &levels(&growth.peak().by_level), &events(growth))
}

/// Who has the pages at a moment, and the guest tables that several pages shadow.
pub fn owners_tables(snapshot: &Snapshot) -> [Table; 3] {
    let of = MomentReport::of(snapshot);
    let after = format!("after seq {}", count(of.seq));
    let titled = |table: Table| match table.is_empty() {
        true => table,
        false => {
            let title = format!("{}, {after}", table.title());
            table.titled(title)
        }
    };
    let roots = titled(roots(&of)).more(lines(&of).join("; "));
    [roots, titled(by_role(&of)), titled(duplicates(&of))]
}

/// What people read.
pub fn document(report: &MemoryReport) -> Document {
    Document {
        sections: report.vms.iter().map(section).collect(),
        ..Document::default()
    }
}

fn section(vm: &VmMemory) -> Section {
    let of = &vm.moment;
    let title = format!(
        "VM {}: {} after seq {}, {}",
        vm.vm,
        plural(of.pages, "shadow page"),
        count(of.seq),
        bytes(of.bytes),
    );
    Section {
        vm: Some(vm.vm),
        title,
        lines: lines(of),
        tables: vec![
            by_level(vm),
            by_role(of),
            roots(of),
            duplicates(of),
            over_time(vm),
        ],
    }
}

/// What the guest's tables and their shadows take, and what one more address space does.
fn lines(of: &MomentReport) -> Vec<String> {
    let mapped = of.mapped_bytes.map(|mapped| {
        let mapped = bytes(mapped);
        format!(", {mapped} of the guest's memory are mapped")
    });
    let mut lines = vec![format!(
        "{} in {} are shadowed{}",
        plural(of.guest_tables, "guest table"),
        bytes(of.guest_table_bytes),
        mapped.unwrap_or_default(),
    )];
    lines.push(format!(
        "{} shadowed by several pages: {} beyond the first",
        plural(of.duplicated_tables, "guest table"),
        plural(of.duplicate_pages, "page"),
    ));
    if of.stray_leaves > 0 {
        lines.push(format!(
            "{} more of guest frames that no record has given yet",
            plural(of.stray_leaves, "leaf"),
        ));
    }
    if let Some(median) = of.median_own_pages {
        let spaces = match of.address_spaces {
            1 => "the one root with a CR3 has".to_owned(),
            several => format!(
                "half of the {} roots with a CR3 have at least",
                count(several)
            ),
        };
        lines.push(format!(
            "{spaces} {} ({}) that no other root leads to",
            plural(median, "page"),
            bytes(median.saturating_mul(PAGE_BYTES)),
        ));
    }
    lines.push(format!(
        "{} of one root, {} of several, {} of none",
        plural(of.own_pages, "page"),
        count(of.shared_pages),
        count(of.unreached_pages),
    ));
    lines
}

fn by_level(vm: &VmMemory) -> Table {
    let title = "Pages at that moment, and events of the whole recording";
    level_table(title, &vm.moment.by_level, &vm.events)
}

fn level_table(title: &str, pages: &[LevelPages], events: &[LevelEvents]) -> Table {
    let columns = [
        Column::number("level"),
        Column::number("indirect"),
        Column::number("direct"),
        Column::number("made"),
        Column::number("found again"),
        Column::number("zapped"),
    ];
    let mut table = Table::new("memory", title, columns);
    for level in 1_u8..=5 {
        let now = pages.iter().find(|of| of.level == level);
        let events = events.iter().find(|of| of.level == level);
        if now.is_none() && events.is_none() {
            continue;
        }
        table.row([
            Cell::Count(level.into()),
            Cell::Count(now.map_or(0, |of| of.indirect)),
            Cell::Count(now.map_or(0, |of| of.direct)),
            Cell::Count(events.map_or(0, |of| of.made)),
            Cell::Count(events.map_or(0, |of| of.reused)),
            Cell::Count(events.map_or(0, |of| of.zapped)),
        ]);
    }
    table
}

fn by_role(of: &MomentReport) -> Table {
    let columns = [
        Column::code("role"),
        Column::number("level"),
        Column::code("access"),
        Column::number("pages"),
    ];
    let title = "Pages by role, and what the path to them allows: write, execute, user";
    let mut table = Table::new("roles", title, columns).first(SHOWN);
    for role in &of.by_role {
        table.row([
            Cell::Address(role.role.0.into()),
            Cell::Count(role.level.into()),
            Cell::words(&role.access),
            Cell::Count(role.pages),
        ]);
    }
    table
}

fn roots(of: &MomentReport) -> Table {
    let columns = [
        Column::code("root"),
        Column::number("roots"),
        Column::code("cr3"),
        Column::number("own pages"),
        Column::number("shared pages"),
    ];
    let title = "Address spaces, those with the most pages of their own first";
    let mut table = Table::new("roots", title, columns).first(SHOWN);
    for space in &of.each_address_space {
        let Some(root) = space.roots.first() else {
            continue;
        };
        table.row([
            Cell::Address(root.0),
            Cell::Count(space.roots.len() as u64),
            space.cr3.map_or(Cell::Absent, |cr3| Cell::Address(cr3.0)),
            Cell::Count(space.own_pages),
            space.shared_pages.map_or(Cell::Absent, Cell::Count),
        ]);
    }
    table
}

fn duplicates(of: &MomentReport) -> Table {
    let columns = [
        Column::code("gfn"),
        Column::number("pages"),
        Column::words("level and role of each"),
    ];
    let title = "Guest tables that several pages shadow";
    let mut table = Table::new("duplicates", title, columns).first(SHOWN);
    for duplicate in &of.duplicates {
        let pages = duplicate.pages.iter();
        let pages = pages.map(|page| format!("{} {:#x}", page.level, page.role.0));
        table.row([
            Cell::Address(duplicate.gfn.0),
            Cell::Count(duplicate.pages.len() as u64),
            Cell::words(pages.collect::<Vec<_>>().join(", ")),
        ]);
    }
    table
}

fn over_time(vm: &VmMemory) -> Table {
    let spans = spans(vm);
    let of_level = |span: &BinReport, level: u8| {
        let of = span.by_level.iter().filter(|of| of.level == level);
        of.map(|of| of.indirect + of.direct).sum()
    };
    let held = |level: &u8| spans.iter().any(|span| of_level(span, *level) > 0);
    let levels: Vec<u8> = (1..=5).rev().filter(held).collect();
    let mut columns = vec![Column::time("from"), Column::number("pages")];
    columns.extend(
        levels
            .iter()
            .map(|of| Column::number(format!("level {of}"))),
    );
    columns.extend([
        Column::number("guest tables"),
        Column::number("mapped KiB, each leaf"),
        Column::number("made"),
        Column::number("found again"),
        Column::number("zapped"),
    ]);
    let title = "Over time, at the end of each span with a change";
    let mut table = Table::new("over_time", title, columns);
    for span in &spans {
        let of_each = levels.iter().map(|level| of_level(span, *level));
        let pages = of_each.clone().sum();
        let mut cells = vec![Cell::At(span.from_ns), Cell::Count(pages)];
        cells.extend(of_each.map(Cell::Count));
        cells.extend([
            Cell::Count(span.guest_tables),
            Cell::Count(span.mapped_by_leaves_bytes >> 10),
            Cell::Count(span.made),
            Cell::Count(span.reused),
            Cell::Count(span.zapped),
        ]);
        table.row(cells);
    }
    table
}

/// The bins in [`SHOWN`] spans of equal length.
fn spans(vm: &VmMemory) -> Vec<BinReport> {
    let length = vm.bin_ns.saturating_mul((BINS / SHOWN) as u64).max(1);
    let mut spans: Vec<BinReport> = Vec::new();
    for bin in &vm.bins {
        let from_ns = bin.from_ns / length * length;
        let same = spans.last().filter(|span| span.from_ns == from_ns);
        let [made, reused, zapped] =
            same.map_or([0; 3], |span| [span.made, span.reused, span.zapped]);
        if same.is_some() {
            spans.pop();
        }
        spans.push(BinReport {
            from_ns,
            made: made + bin.made,
            reused: reused + bin.reused,
            zapped: zapped + bin.zapped,
            ..bin.clone()
        });
    }
    spans
}
