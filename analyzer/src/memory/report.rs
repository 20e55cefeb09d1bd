//! The memory of shadow tables: what `memory --json` prints, and the tables that people read.

use events::{Gfn, Gpa, Hpa, Role, VmId};
use serde::Serialize;

use super::{
    Growth, PAGE_BYTES, Snapshot,
    growth::{BINS, Bin, Pages},
    snapshot::AddressSpace,
};
use crate::text::{
    Cell, Column, Document, Section, Table,
    units::{bytes, count, plural},
};

/// Roots, duplicates and bins that people are shown.
const SHOWN: usize = 12;

/// What `memory --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryReport {
    /// Records known to be missing: what follows them may be wrong.
    pub lost: u64,
    /// Each VM.
    pub vms: Vec<VmMemory>,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct VmMemory {
    /// Its number.
    pub vm: u16,
    /// Events of pages by level.
    pub events: Vec<LevelEvents>,
    /// The moment with the most pages, or the one asked for.
    pub moment: MomentReport,
    /// Length of a span of `bins`, ns.
    pub bin_ns: u64,
    /// Over time: each span with a change.
    pub bins: Vec<BinReport>,
}

/// Events of pages of one level.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LevelEvents {
    /// The level.
    pub level: u8,
    /// Pages made.
    pub made: u64,
    /// Pages found again by frame and role.
    pub reused: u64,
    /// Pages zapped.
    pub zapped: u64,
}

/// Pages of one level.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LevelPages {
    /// The level.
    pub level: u8,
    /// Those that shadow a guest table.
    pub indirect: u64,
    /// Direct ones: parts of a large page, or of a guest without paging.
    pub direct: u64,
}

/// One moment.
#[derive(Clone, Debug, Serialize)]
pub struct MomentReport {
    /// The record after which it is.
    pub seq: u64,
    /// Shadow pages.
    pub pages: u64,
    /// Their entries, bytes.
    pub bytes: u64,
    /// By level.
    pub by_level: Vec<LevelPages>,
    /// Distinct guest tables that they shadow, and their bytes.
    pub guest_tables: u64,
    /// See `guest_tables`.
    pub guest_table_bytes: u64,
    /// Distinct guest memory that leaves map, bytes.
    pub mapped_bytes: Option<u64>,
    /// Leaves whose guest frame no record has given yet: not in `mapped_bytes`.
    pub stray_leaves: u64,
    /// Guest tables that several pages shadow.
    pub duplicated_tables: u64,
    /// Pages beyond the first of each such table.
    pub duplicate_pages: u64,
    /// The most duplicated tables.
    pub duplicates: Vec<DuplicateReport>,
    /// Roots of address spaces.
    pub roots: u64,
    /// Pages that one address space leads to.
    pub own_pages: u64,
    /// Pages that several address spaces lead to.
    pub shared_pages: u64,
    /// Pages that no root leads to.
    pub unreached_pages: u64,
    /// Address spaces with a CR3.
    pub address_spaces: u64,
    /// Half of those have at most so many pages of their own.
    pub median_own_pages: Option<u64>,
    /// The address spaces with the most pages of their own, those without a CR3 included.
    pub each_address_space: Vec<SpaceReport>,
}

/// A guest table that several pages shadow.
#[derive(Clone, Debug, Serialize)]
pub struct DuplicateReport {
    /// Its frame.
    pub gfn: Gfn,
    /// The pages.
    pub pages: Vec<DuplicatePage>,
}

/// One of them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DuplicatePage {
    /// Its address.
    pub spt: Hpa,
    /// Its level.
    pub level: u8,
    /// Its raw role word.
    pub role: Role,
}

/// The roots of one guest table, or one root without a guest table.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceReport {
    /// Their addresses: one for each role.
    pub roots: Vec<Hpa>,
    /// The guest's CR3; absent of a PAE root and of a guest without paging.
    pub cr3: Option<Gpa>,
    /// Pages that only they lead to, themselves included.
    pub own_pages: u64,
    /// Their bytes.
    pub own_bytes: u64,
    /// Pages that they share with other address spaces; absent if that takes too long to count.
    pub shared_pages: Option<u64>,
}

/// A span of time.
#[derive(Clone, Debug, Serialize)]
pub struct BinReport {
    /// Its beginning, ns from the start of the trace.
    pub from_ns: u64,
    /// Pages at its end, by level.
    pub by_level: Vec<LevelPages>,
    /// Distinct guest tables at its end.
    pub guest_tables: u64,
    /// The sizes of all leaves at its end, bytes; a frame that is mapped twice counts twice.
    pub mapped_by_leaves_bytes: u64,
    /// Pages made in it.
    pub made: u64,
    /// Pages found again in it.
    pub reused: u64,
    /// Pages zapped in it.
    pub zapped: u64,
}

fn levels(pages: &Pages) -> Vec<LevelPages> {
    let levels = (1_u8..).zip(pages);
    let levels = levels.map(|(level, [indirect, direct])| LevelPages {
        level,
        indirect: *indirect,
        direct: *direct,
    });
    levels.filter(|of| of.indirect + of.direct > 0).collect()
}

fn events(growth: &Growth) -> Vec<LevelEvents> {
    let events = (1_u8..).zip(growth.events());
    let events = events.map(|(level, of)| LevelEvents {
        level,
        made: of.made,
        reused: of.reused,
        zapped: of.zapped,
    });
    events
        .filter(|of| of.made + of.reused + of.zapped > 0)
        .collect()
}

impl VmMemory {
    /// Of one VM.
    pub fn of(vm: VmId, growth: &Growth, snapshot: &Snapshot) -> Self {
        Self {
            vm: vm.0,
            events: events(growth),
            moment: MomentReport::of(snapshot),
            bin_ns: growth.bin_ns(),
            bins: growth
                .bins()
                .map(|(at, bin)| BinReport::of(at, bin))
                .collect(),
        }
    }
}

impl BinReport {
    fn of(from_ns: u64, bin: &Bin) -> Self {
        Self {
            from_ns,
            by_level: levels(&bin.pages),
            guest_tables: bin.guest_tables,
            mapped_by_leaves_bytes: bin.mapped_bytes,
            made: bin.made,
            reused: bin.reused,
            zapped: bin.zapped,
        }
    }
}

impl MomentReport {
    fn of(of: &Snapshot) -> Self {
        let pages: u64 = of.pages.iter().flatten().sum();
        let duplicates = of.listed.iter().map(|table| DuplicateReport {
            gfn: table.gfn,
            pages: table
                .pages
                .iter()
                .map(|(spt, role, level)| DuplicatePage {
                    spt: *spt,
                    level: level.0,
                    role: *role,
                })
                .collect(),
        });
        Self {
            seq: of.seq.0,
            pages,
            bytes: pages.saturating_mul(PAGE_BYTES),
            by_level: levels(&of.pages),
            guest_tables: of.guest_tables,
            guest_table_bytes: of.guest_tables.saturating_mul(PAGE_BYTES),
            mapped_bytes: of
                .mapped_frames
                .map(|frames| frames.saturating_mul(PAGE_BYTES)),
            stray_leaves: of.strays,
            duplicated_tables: of.duplicated,
            duplicate_pages: of.duplicates,
            duplicates: duplicates.collect(),
            roots: of.roots,
            own_pages: of.own,
            shared_pages: of.shared,
            unreached_pages: of.unreached,
            address_spaces: of.with_cr3,
            median_own_pages: of.median_own,
            each_address_space: of.spaces.iter().map(SpaceReport::of).collect(),
        }
    }
}

impl SpaceReport {
    fn of(space: &AddressSpace) -> Self {
        Self {
            roots: space.roots.clone(),
            cr3: space.cr3(),
            own_pages: space.own,
            own_bytes: space.own.saturating_mul(PAGE_BYTES),
            shared_pages: space.shared,
        }
    }
}

/// The moment with the most pages, for `summary`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PeakReport {
    /// The record after which it is.
    pub seq: u64,
    /// Shadow pages.
    pub pages: u64,
    /// Their entries, bytes.
    pub bytes: u64,
    /// Pages made in the whole recording.
    pub made: u64,
    /// Pages found again by frame and role.
    pub reused: u64,
    /// Pages zapped.
    pub zapped: u64,
}

impl PeakReport {
    /// None without a shadow page.
    pub fn of(growth: &Growth) -> Option<Self> {
        let (peak, events) = (growth.peak(), growth.events());
        (peak.pages > 0).then(|| Self {
            seq: peak.seq.0,
            pages: peak.pages,
            bytes: peak.pages.saturating_mul(PAGE_BYTES),
            made: events.iter().map(|of| of.made).sum(),
            reused: events.iter().map(|of| of.reused).sum(),
            zapped: events.iter().map(|of| of.zapped).sum(),
        })
    }

    /// In one line.
    pub fn line(&self) -> String {
        let pages = plural(self.pages, "shadow page");
        let [made, reused, zapped] = [self.made, self.reused, self.zapped].map(count);
        let (bytes, seq) = (bytes(self.bytes), count(self.seq));
        format!(
            "at most {pages} ({bytes}), after seq {seq}; {made} made, {reused} found again, \
             {zapped} zapped"
        )
    }
}

/// Pages by level at the peak, and their events.
pub fn table(growth: &Growth) -> Table {
    let title = "Memory: shadow pages at the moment with the most";
    level_table(title, &levels(&growth.peak().by_level), &events(growth))
}

/// Who has the pages at a moment, and the guest tables that several pages shadow.
pub fn owners_tables(snapshot: &Snapshot) -> [Table; 2] {
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
    [roots, titled(duplicates(&of))]
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
        tables: vec![by_level(vm), roots(of), duplicates(of), over_time(vm)],
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
                "half of the {} roots with a CR3 have at most",
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
    let columns = [
        Column::time("from"),
        Column::number("pages"),
        Column::number("guest tables"),
        Column::number("mapped KiB, each leaf"),
        Column::number("made"),
        Column::number("found again"),
        Column::number("zapped"),
    ];
    let title = "Over time, at the end of each span with a change";
    let mut table = Table::new("over_time", title, columns);
    for span in spans(vm) {
        let pages = span.by_level.iter();
        let pages = pages.map(|of| of.indirect + of.direct).sum();
        table.row([
            Cell::At(span.from_ns),
            Cell::Count(pages),
            Cell::Count(span.guest_tables),
            Cell::Count(span.mapped_by_leaves_bytes >> 10),
            Cell::Count(span.made),
            Cell::Count(span.reused),
            Cell::Count(span.zapped),
        ]);
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
