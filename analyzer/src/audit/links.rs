//! Checks of a page against the entry that points to it.

use events::{Gfn, Gpa, Gpte, Gva, Hpa, Level, Spte};
use trace::FaultRow;

use super::{
    Audit,
    check::{Check, Why},
    tally::{Tally, Words},
};
use crate::replay::{PAE_LEVEL, PageInfo, ShadowPage, ShadowTables, VmReplay};

/// The guest's entries that a fault's walk read.
#[derive(Clone, Copy, Debug)]
struct GuestWalk {
    /// From level 1 to 5.
    entries: [Option<Gpte>; 5],
    /// Level of the last one.
    level: Level,
}

impl GuestWalk {
    /// None without a walk that ended at a page.
    fn of(row: &FaultRow) -> Option<Self> {
        let entries = [row.gpte1, row.gpte2, row.gpte3, row.gpte4, row.gpte5];
        let (last, level) = entries
            .iter()
            .zip(1_u8..)
            .find_map(|(entry, level)| Some(((*entry)?, Level(level))))?;
        let ends = level == Level(1) || last.is_large();
        ends.then_some(Self { entries, level })
    }

    fn at(&self, level: u8) -> Option<Gpte> {
        let index = usize::from(level).checked_sub(1)?;
        self.entries.get(index).copied().flatten()
    }

    /// Upper entries without the bits that the guest's processor sets by itself.
    fn upper(&self) -> [u64; 4] {
        let [_, upper @ ..] = self.entries;
        upper.map(|entry| entry.map_or(0, |entry| Spte(entry.0).without_accessed_dirty().0))
    }
}

/// A way through the tables that was checked: the same for neighbours, so not walked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    root: Hpa,
    leaf_table: Hpa,
    last: Level,
    guest: [u64; 4],
}

impl Path {
    /// It begins at this root.
    pub(super) fn is_of(&self, root: Hpa) -> bool {
        self.root == root
    }
}

impl Audit {
    /// An entry points to a child table.
    pub(super) fn link(&mut self, parent: &PageInfo, place: Hpa, child: &PageInfo) {
        match self.wrong_link(parent, place.index(), child) {
            None => self.tallies.holds(Check::ChildRole),
            Some(words) => self.tallies.violated(Check::ChildRole, place, || words),
        }
    }

    /// In what a child does not fit to the entry (`kvm_mmu_child_role`).
    fn wrong_link(&self, parent: &PageInfo, index: u16, child: &PageInfo) -> Option<Words> {
        let expected = parent.level.0.saturating_sub(1);
        if child.level.0 != expected {
            let found = format!("level {}", child.level);
            return Some(Words::new(format!("a child of level {expected}"), found));
        }
        if parent.direct && !child.direct {
            let found = format!("a page that shadows the table in gfn {}", child.gfn);
            return Some(Words::new("a direct child of a direct page", found));
        }
        let span = parent.level.pages();
        if parent.direct {
            let demanded = parent.gfn.0.wrapping_add(span.wrapping_mul(index.into()));
            let found = format!("a direct page from gfn {}", child.gfn);
            let words = || Words::new(format!("a direct page from gfn {demanded:#x}"), found);
            return (child.gfn.0 != demanded).then(words);
        }
        if child.direct && child.gfn.0 & (span - 1) != 0 {
            let found = format!("gfn {}", child.gfn);
            let expected = format!("a direct page whose gfn is a multiple of {span:#x}");
            return Some(Words::new(expected, found));
        }
        self.wrong_fields(parent, index, child)
    }

    /// Fields of the role that a child takes from its parent, or from its place.
    fn wrong_fields(&self, parent: &PageInfo, index: u16, child: &PageInfo) -> Option<Words> {
        let taken = [
            ("guest_mode", self.roles.guest_mode),
            ("smm", self.roles.smm),
            ("has_4_byte_gpte", self.roles.four_bytes),
        ];
        for (name, field) in taken {
            let (one, other) = (field.of(parent.role), field.of(child.role));
            if one != other {
                let words = |value: Option<u32>| format!("{name} {}", value.unwrap_or_default());
                return Some(Words::new(words(one), words(other)));
            }
        }
        let quadrant = self.roles.quadrant.of(child.role)?;
        let demanded = u32::from(index & 1);
        let has_quadrants = self.roles.four_bytes.is_set(parent.role);
        (has_quadrants && quadrant != demanded).then(|| {
            let words = |quadrant: u32| format!("quadrant {quadrant}");
            Words::new(words(demanded), words(quadrant))
        })
    }

    /// The pages on the way to a fault's leaf, against what its walk of the guest's tables read.
    pub(super) fn path(&mut self, row: &FaultRow, leaf: &ShadowPage, vm: &VmReplay) {
        let check = Check::ChildRole;
        let Some(walk) = GuestWalk::of(row) else {
            // Without paging there is none, and every page is direct.
            if !leaf.info.direct {
                self.tallies.leave_out(check, Why::NoWalk);
            }
            return;
        };
        if self.roles.guest_mode.is_set(leaf.info.role) {
            self.tallies.leave_out(check, Why::Nested);
            return;
        }
        let path = Path {
            root: row.root,
            leaf_table: leaf.info.spt,
            last: walk.level,
            guest: walk.upper(),
        };
        if self.path == Some(path) {
            self.tallies.holds(check);
            return;
        }
        let doubts = |tally: &Tally| tally.violated() + tally.all_left_out();
        let before = doubts(self.tallies.of(check));
        self.walk_down(row, &walk, leaf, vm);
        let holds = doubts(self.tallies.of(check)) == before;
        self.path = holds.then_some(path);
    }

    fn walk_down(&mut self, row: &FaultRow, walk: &GuestWalk, leaf: &ShadowPage, vm: &VmReplay) {
        let tables = vm.tables();
        let Some(mut page) = first_page(row.root, row.gva, vm) else {
            self.tallies.leave_out(Check::ChildRole, Why::NoPath);
            return;
        };
        // Each turn is one level lower.
        while page.info.level > leaf.info.level {
            let below = below(page, row.gva, tables);
            let Some((place, child)) = below.filter(|(_, c)| c.info.level < page.info.level) else {
                self.tallies.leave_out(Check::ChildRole, Why::NoPath);
                return;
            };
            self.against_guest(&page.info, place, &child.info, walk, row.gpa);
            page = child;
        }
        if page.info.spt != leaf.info.spt {
            self.tallies.leave_out(Check::ChildRole, Why::NoPath);
        }
    }

    /// A child, and the guest's entry that translates the same address at the parent's level.
    fn against_guest(
        &mut self,
        parent: &PageInfo,
        place: Hpa,
        child: &PageInfo,
        walk: &GuestWalk,
        gpa: Option<Gpa>,
    ) {
        if self.roles.passthrough.is_set(parent.role) {
            return;
        }
        let check = Check::ChildRole;
        if walk.level >= parent.level {
            let span = parent.level.pages();
            let demanded = gpa.map(|gpa| Gfn(gpa.gfn().0 & !(span - 1)));
            let right_frame = demanded.is_none_or(|demanded| demanded == child.gfn);
            let holds = child.direct && right_frame;
            self.tallies.check(check, holds, place, || {
                let level = walk.level;
                let from = demanded.map_or_else(String::new, |gfn| format!(" from gfn {gfn}"));
                Words::new(
                    format!("a direct page{from}: the guest maps a large page at level {level}"),
                    page(child),
                )
            });
            return;
        }
        let Some(gpte) = walk.at(parent.level.0) else {
            return;
        };
        let table = gpte.gpa().gfn();
        let holds = !child.direct && child.gfn == table;
        self.tallies.check(check, holds, place, || {
            let level = parent.level;
            Words::new(
                format!(
                    "a page that shadows the table in gfn {table}, by the guest's entry of \
                         level {level}"
                ),
                page(child),
            )
        });
    }
}

/// A page in words.
fn page(info: &PageInfo) -> String {
    match info.direct {
        true => format!("a direct page from gfn {}", info.gfn),
        false => format!("a page that shadows the table in gfn {}", info.gfn),
    }
}

/// The page that translates `gva` below the root, or is the root.
fn first_page(root: Hpa, gva: Gva, vm: &VmReplay) -> Option<&ShadowPage> {
    if let Some(pdptes) = vm.pdptes(root.table()) {
        let index = usize::from(PAE_LEVEL.index(gva)? & 3);
        return vm.tables().page(pdptes.get(index).copied().flatten()?);
    }
    vm.tables().page(root.table())
}

/// The table that the entry of `page` for `gva` points to, and the place of the entry.
fn below<'t>(
    page: &ShadowPage,
    gva: Gva,
    tables: &'t ShadowTables,
) -> Option<(Hpa, &'t ShadowPage)> {
    let index = page.info.level.index(gva)?;
    let spte = page.entry(index);
    let is_link = spte.is_shadow_present() && !spte.is_leaf(page.info.level);
    let child = tables.page(spte.child()).filter(|_| is_link)?;
    Some((page.place(index), child))
}
