//! The tables as a tree, leaves in runs.

use std::collections::HashMap;

use events::{Gfn, Gpa, Gva, Hpa, Level, VcpuId};

use super::Snapshot;
use crate::{
    replay::{
        LOWEST_ROOT, PAE_LEVEL, Pdptes, ShadowPage, ShadowTables, Walk, canonical, first_gva,
    },
    text::{
        flags,
        units::{count, page_size, plural, since},
    },
};

/// Lines printed at most: a tree of shared tables repeats them under every parent.
const MAX_LINES: usize = 20_000;

/// One line of totals, and the warnings.
pub(super) fn head(snapshot: &Snapshot) -> String {
    let totals = snapshot.vm.tables().totals();
    let mut out = format!(
        "at {} (seq {}): {}, {} leaves, {} links, {} unsync\n",
        since(snapshot.time.0, snapshot.start_ns),
        snapshot.seq.0,
        plural(totals.all_pages(), "shadow page"),
        count(totals.leaves),
        count(totals.links),
        count(totals.unsync),
    );
    if snapshot.missing > 0 {
        out.push_str(&format!(
            "{} missing since the last keyframe, of any VM: these tables may be wrong\n",
            plural(snapshot.missing, "record")
        ));
    }
    for (vcpu, current) in snapshot.vm.roots() {
        if !snapshot.is_table(current.root) {
            out.push_str(&format!(
                "vCPU {} runs on root {}, no shadow page that a record made\n",
                vcpu.0, current.root
            ));
        }
    }
    out
}

/// A PAE root in words.
const PAE_ROOT: &str = "PAE: four PDPTEs, no shadow page";

/// The vCPUs on each root.
#[derive(Clone, Debug)]
pub(super) struct Users(HashMap<Hpa, Vec<(VcpuId, Gpa)>>);

impl Users {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut users = Self(HashMap::new());
        for (vcpu, current) in snapshot.vm.roots() {
            let of_root = users.0.entry(current.root.table()).or_default();
            of_root.push((*vcpu, current.cr3));
        }
        users
    }

    /// Those on one root, each with its CR3.
    pub(super) fn get(&self, root: Hpa) -> &[(VcpuId, Gpa)] {
        self.0.get(&root).map_or(&[], Vec::as_slice)
    }

    fn words(&self, root: Hpa) -> String {
        let users = self.get(root).iter();
        let users: Vec<_> = users
            .map(|(vcpu, cr3)| format!("vCPU {} with cr3 {cr3}", vcpu.0))
            .collect();
        if users.is_empty() {
            "not in use now".to_owned()
        } else {
            users.join(", ")
        }
    }
}

/// What a table is that others begin with, and who uses it.
pub(super) fn title(snapshot: &Snapshot, users: &Users, root: Hpa) -> String {
    if snapshot.vm.pdptes(root).is_some() {
        return format!("root {root} {PAE_ROOT}: {}", users.words(root));
    }
    match snapshot.vm.tables().page(root.table()) {
        Some(page) if page.info.level < LOWEST_ROOT => {
            let counted = match page.info.direct {
                true => "",
                false => "; its addresses are relative to its start",
            };
            format!(
                "{}, below an unknown PAE root{counted}",
                table(snapshot.vm.tables(), page)
            )
        }
        Some(page) => format!(
            "root {root} level {}: {}",
            page.info.level,
            users.words(root)
        ),
        None => format!("root {root}: {}", users.words(root)),
    }
}

/// The tree of each of `roots`.
pub fn tree(snapshot: &Snapshot, roots: &[Hpa]) -> String {
    let tables = snapshot.vm.tables();
    let users = Users::of(snapshot);
    let mut lines = Vec::new();
    for root in roots {
        if lines.len() >= MAX_LINES {
            break;
        }
        if let Some(pdptes) = snapshot.vm.pdptes(*root) {
            lines.push(title(snapshot, &users, *root));
            pae(snapshot, pdptes, &mut lines);
            continue;
        }
        let Some(page) = tables.page(*root) else {
            continue;
        };
        lines.push(title(snapshot, &users, *root));
        visit(
            tables,
            page,
            first_gva(page),
            page.info.level,
            1,
            &mut lines,
        );
    }
    let all = snapshot.vm.table_roots();
    let mut out = head(snapshot);
    if lines.len() >= MAX_LINES {
        lines.truncate(MAX_LINES);
        lines.push(format!(
            "... cut after {} lines; --root or --as ranges shows less",
            count(MAX_LINES as u64)
        ));
    }
    for line in lines {
        out.push_str(&line);
        out.push('\n');
    }
    if all.orphans > 0 {
        let pages = plural(all.orphans as u64, "page");
        let why = if all.pae.is_empty() {
            "kept by KVM in case their guest table is used again"
        } else {
            "below an unknown PDPTE, or kept by KVM for later"
        };
        out.push_str(&format!("{pages} below no root: {why}\n"));
    }
    out
}

/// What is below a PAE root.
fn pae(snapshot: &Snapshot, pdptes: &Pdptes, lines: &mut Vec<String>) {
    let tables = snapshot.vm.tables();
    let root = PAE_LEVEL;
    if pdptes.iter().all(Option::is_none) {
        lines.push("  its PDPTEs are not known".to_owned());
    }
    for (index, to) in (0_u64..).zip(pdptes) {
        let Some(spt) = to else { continue };
        let gva = index * (root.pages() << 12);
        match snapshot.vm.pdpte_table(*to) {
            Some(child) => {
                let line = format!("  [{index:>3}] {} {}", Gva(gva), table(tables, child));
                lines.push(line);
                visit(tables, child, gva, root, 2, lines);
            }
            None => lines.push(format!(
                "  [{index:>3}] {} table {spt}, zapped since",
                Gva(gva)
            )),
        }
    }
}

fn visit(
    tables: &ShadowTables,
    page: &ShadowPage,
    base: u64,
    root: Level,
    depth: usize,
    lines: &mut Vec<String>,
) {
    let indent = "  ".repeat(depth);
    let level = page.info.level;
    let span = level.pages() << 12;
    let mut run: Option<(u16, u16)> = None;
    for (index, spte) in page.entries() {
        if lines.len() >= MAX_LINES {
            return;
        }
        if spte.is_leaf(level) {
            let joins = run.is_some_and(|(_, last)| {
                last.checked_add(1) == Some(index)
                    && flags::rights(page.entry(last)) == flags::rights(spte)
            });
            match &mut run {
                Some((_, last)) if joins => *last = index,
                _ => {
                    lines.extend(run.take().map(|run| leaves(page, run, base, root, &indent)));
                    run = Some((index, index));
                }
            }
            continue;
        }
        lines.extend(run.take().map(|run| leaves(page, run, base, root, &indent)));
        if let Some(child) = tables.child(page, spte) {
            let gva = base.wrapping_add(span.wrapping_mul(u64::from(index)));
            lines.push(format!(
                "{indent}[{index:>3}] {} {}",
                canonical(gva, root),
                table(tables, child)
            ));
            visit(tables, child, gva, root, depth + 1, lines);
        } else if spte.is_shadow_present() {
            lines.push(format!(
                "{indent}[{index:>3}] link to {}, a table that no record made",
                spte.child()
            ));
        }
    }
    lines.extend(run.take().map(|run| leaves(page, run, base, root, &indent)));
}

fn table(tables: &ShadowTables, page: &ShadowPage) -> String {
    let of = if page.info.direct {
        "direct, from gfn"
    } else {
        "shadows gfn"
    };
    let unsync = if page.info.unsync { ", unsync" } else { "" };
    let entries = if page.present() == 1 {
        "entry"
    } else {
        "entries"
    };
    let shared = match tables.parents(page.info.spt).len() {
        0 | 1 => String::new(),
        parents => format!(", one of {parents} links to it"),
    };
    format!(
        "level {} table {} ({of} {}{unsync}), {} {entries}{shared}",
        page.info.level,
        page.info.spt,
        page.info.gfn,
        page.present()
    )
}

fn leaves(
    page: &ShadowPage,
    (first, last): (u16, u16),
    base: u64,
    root: Level,
    indent: &str,
) -> String {
    let level = page.info.level;
    let span = level.pages() << 12;
    let gva = canonical(base.wrapping_add(span.wrapping_mul(u64::from(first))), root);
    let spte = page.entry(first);
    let number = u64::from(last - first) + 1;
    let size = page_size(level.pages());
    let adjoins = |index: u16| {
        page.entry(index).pfn().0.wrapping_add(level.pages())
            == page.entry(index.saturating_add(1)).pfn().0
    };
    let frames = match number {
        1 => format!("pfn {}", spte.pfn()),
        _ if (first..last).all(adjoins) => {
            format!("pfn {} to {}", spte.pfn(), page.entry(last).pfn())
        }
        _ if (first..=last).all(|index| page.entry(index).pfn() == spte.pfn()) => {
            format!("pfn {} for each", spte.pfn())
        }
        _ => format!("pfn {} and others", spte.pfn()),
    };
    let gfns = gfns(page, first, last);
    format!(
        "{indent}[{first:>3}] {gva} {number} x {size} {} {gfns}{frames}",
        flags::rights(spte)
    )
}

/// The guest frames that leaves map, where they are known.
fn gfns(page: &ShadowPage, first: u16, last: u16) -> String {
    let Some(gfn) = page.leaf_gfn(first) else {
        return String::new();
    };
    let pages = page.info.level.pages();
    let follows = |index: u16| {
        let offset = u64::from(index - first).wrapping_mul(pages);
        page.leaf_gfn(index).map(|gfn| gfn.0) == Some(gfn.0.wrapping_add(offset))
    };
    match page.leaf_gfn(last) {
        _ if first == last => format!("gfn {gfn}, "),
        Some(end) if (first..=last).all(follows) => format!("gfn {gfn} to {end}, "),
        _ if (first..=last).all(|index| page.leaf_gfn(index) == Some(gfn)) => {
            format!("gfn {gfn} for each, ")
        }
        _ => format!("gfn {gfn} and others, "),
    }
}

/// The guest frame that a walk ended in, where it is known.
pub(crate) fn gfn(snapshot: &Snapshot, walk: &Walk) -> Option<Gfn> {
    let (leaf, mapping) = (walk.steps.last()?, walk.mapping?);
    let page = snapshot.vm.tables().page(leaf.spt)?;
    let within = mapping.pfn.0 & (mapping.level.pages() - 1);
    Some(Gfn(page.leaf_gfn(leaf.index)?.0.wrapping_add(within)))
}

/// The way of one address through the tables of each of `roots`.
pub fn translation(snapshot: &Snapshot, roots: &[Hpa], gva: Gva) -> String {
    let mut out = head(snapshot);
    let users = Users::of(snapshot);
    for root in roots {
        let walk = snapshot.vm.walk(*root, gva);
        out.push_str(&format!("{}\n", title(snapshot, &users, *root)));
        for step in &walk.steps {
            out.push_str(&format!(
                "  level {} {}[{:>3}] {:#018x} {}\n",
                step.level,
                step.spt,
                step.index,
                step.spte.0,
                flags::step(step)
            ));
        }
        match walk.mapping {
            Some(mapping) => {
                let hpa = mapping.pfn.hpa().0 | gva.page_offset();
                let size = page_size(mapping.level.pages());
                let gpa = match gfn(snapshot, &walk) {
                    Some(gfn) => format!("gpa {}, ", gfn.gpa(gva.page_offset())),
                    None => String::new(),
                };
                out.push_str(&format!(
                    "  gva {gva} is {gpa}hpa {hpa:#x}, in a {size} leaf\n"
                ));
            }
            None => out.push_str(&format!("  gva {gva} is not mapped: an access faults\n")),
        }
    }
    if roots.is_empty() {
        out.push_str("no root: nothing is mapped\n");
    }
    out.push_str(&format!("\n{}\n", flags::LEGEND));
    out
}
