//! Checks of a leaf at the record that stores it.

use events::{Class, Gfn, Gpa, Hpa, Level, Spte, TimeNs};
use trace::{EntryRow, FaultRow};

use super::{
    Audit,
    check::{Check, Why},
    slots::Held,
    spaces::{Space, may_write},
    tally::Words,
};
use crate::replay::{ShadowPage, ShadowTables, VmReplay};

/// Highest level whose leaves are searched for tables at the record that stores them; keyframes
/// decide for larger ones.
const SEARCHED: Level = Level(2);

/// Pages, or leaves, that are looked at for one place. Bounds the work that a trace takes.
pub(super) const MOST_TRIED: usize = 64;

/// What a table, or a leaf, shows of the rule that the guest writes no synced table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome<'t> {
    /// It holds.
    Holds,
    /// It cannot be checked.
    LeftOut(Why),
    /// The leaf here lets the guest write the table.
    Violated(Hpa, &'t ShadowPage),
}

impl<'t> Outcome<'t> {
    /// Of a writable leaf at `place` of the frame that `table` shadows.
    pub(super) fn of(space: Space, place: Hpa, table: &'t ShadowPage) -> Self {
        match space {
            Space::Same => Self::Violated(place, table),
            Space::Other => Self::Holds,
            Space::Unknown => Self::LeftOut(Why::OtherSpace),
        }
    }
}

/// The worst of some outcomes, which counts for all.
pub(super) fn worst<'t>(outcomes: impl Iterator<Item = Outcome<'t>>) -> Outcome<'t> {
    let mut worst = Outcome::Holds;
    for (number, outcome) in outcomes.enumerate() {
        if number == MOST_TRIED {
            return Outcome::LeftOut(Why::TooMany);
        }
        match outcome {
            Outcome::Holds => {}
            Outcome::LeftOut(_) => worst = outcome,
            Outcome::Violated(..) => return outcome,
        }
    }
    worst
}

/// A leaf that a fault dropped before it stored its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropped {
    place: Hpa,
    gfn: Gfn,
    spte: Spte,
}

impl Audit {
    /// A fault stored its leaf, if it has one.
    pub(super) fn fault(&mut self, row: &FaultRow, vm: &VmReplay) {
        let dropped = self.dropped.take();
        let (Some(place), Some(spte)) = (row.sptep, row.spte) else {
            return;
        };
        self.acts.named(place, spte, &mut self.tallies);
        let tables = vm.tables();
        let Some(page) = tables.page(place.table()) else {
            return;
        };
        if !spte.is_leaf(page.info.level) {
            return;
        }
        let until = TimeNs(row.time_ns.0.saturating_add(row.total_ns));
        let gfn = row.gpa.map(Gpa::gfn);
        let by_lock = matches!(row.class, Class::Shadow | Class::Unsync);
        if by_lock {
            self.root_of(row, vm);
            self.path(row, page, vm);
        }
        self.direct_leaf(page, place, gfn);
        self.within_slot(page, place, [row.time_ns, until]);
        if by_lock {
            self.writable(page, place, spte, tables);
            self.after_drop(row, dropped, page);
        }
    }

    /// A leaf was stored outside of a fault.
    pub(super) fn leaf(&mut self, row: &EntryRow, page: &ShadowPage, tables: &ShadowTables) {
        self.direct_leaf(page, row.sptep, row.gfn);
        self.within_slot(page, row.sptep, [row.time_ns; 2]);
        // What was read without the lock may have been stored long before.
        if row.cause != events::Cause::Reread {
            self.writable(page, row.sptep, row.spte, tables);
        }
    }

    /// A leaf goes in the middle of a fault: the fault's own leaf may come into its place.
    pub(super) fn drops(&mut self, row: &EntryRow, tables: &ShadowTables) {
        if row.cause != events::Cause::Fault || row.spte.is_shadow_present() {
            return;
        }
        let Some(page) = tables.page(row.sptep.table()) else {
            return;
        };
        let spte = page.entry(row.sptep.index());
        let gfn = page.leaf_gfn(row.sptep.index());
        // The guest may change the table of an unsync page freely.
        let synced = !page.info.direct && !page.info.unsync && spte.is_leaf(page.info.level);
        self.dropped = gfn.filter(|_| synced).map(|gfn| Dropped {
            place: row.sptep,
            gfn,
            spte,
        });
    }

    /// A leaf of a synced table that a fault replaces by one of another frame was stale: the store
    /// to the table, or the host's unmap, had to remove it.
    fn after_drop(&mut self, row: &FaultRow, dropped: Option<Dropped>, page: &ShadowPage) {
        let Some(dropped) = dropped.filter(|dropped| Some(dropped.place) == row.sptep) else {
            return;
        };
        if self.has_several_vcpus {
            self.tallies.leave_out(Check::StaleLeaf, Why::SeveralVcpus);
            return;
        }
        let now = page.leaf_gfn(dropped.place.index());
        let pfn = row.spte.map(Spte::pfn);
        let holds = now == Some(dropped.gfn) && pfn == Some(dropped.spte.pfn());
        let check = Check::StaleLeaf;
        self.tallies.check(check, holds, dropped.place, || {
            Words::new(
                "no leaf: its table is synced, and the frame is another now",
                format!(
                    "a leaf of gfn {} and pfn {:#x}, which the fault had to drop",
                    dropped.gfn,
                    dropped.spte.pfn().0
                ),
            )
        });
    }

    /// The leaf of a direct page; `gfn` is the frame that the record names.
    fn direct_leaf(&mut self, page: &ShadowPage, place: Hpa, gfn: Option<Gfn>) {
        let (level, index) = (page.info.level, place.index());
        let (true, Some(gfn), Some(demanded)) = (page.info.direct, gfn, page.leaf_gfn(index))
        else {
            return;
        };
        if self.roles.guest_mode.is_set(page.info.role) {
            self.tallies.leave_out(Check::DirectLeafFrame, Why::Nested);
            return;
        }
        let found = Gfn(gfn.0 & !(level.pages() - 1));
        let check = Check::DirectLeafFrame;
        self.tallies.check(check, found == demanded, place, || {
            let from = page.info.gfn;
            Words::new(
                format!("gfn {demanded}: entry {index} of a direct page from gfn {from}"),
                format!("a leaf of gfn {found}"),
            )
        });
    }

    /// `span`: the moments between which it was stored.
    fn within_slot(&mut self, page: &ShadowPage, place: Hpa, span: [TimeNs; 2]) {
        let Some(gfn) = page.leaf_gfn(place.index()) else {
            return;
        };
        self.slot_of(gfn, page.info.level, place, span);
    }

    /// Whether a memslot holds a leaf of `gfn`.
    pub(super) fn slot_of(&mut self, gfn: Gfn, level: Level, place: Hpa, span: [TimeNs; 2]) {
        let check = Check::OutsideSlot;
        if self.slots.are_unknown() {
            self.tallies.leave_out(check, Why::NoSlots);
            return;
        }
        let decides = self.slots.are_exact() || self.tallies.now.in_keyframe;
        let pages = level.pages();
        match self.slots.hold(gfn, pages, span[0], span[1]) {
            Held::Yes => self.tallies.holds(check),
            Held::No if decides => self.tallies.violated(check, place, || {
                let frames = match pages {
                    1 => format!("gfn {gfn}"),
                    _ => format!("{pages} frames from gfn {gfn}"),
                };
                Words::new(
                    "a leaf of frames that one memslot holds",
                    format!("a leaf of {frames}, which no memslot holds"),
                )
            }),
            Held::No | Held::Unknown => self.tallies.leave_out(check, Why::SlotsSeenLate),
        }
    }

    /// Whether the leaf lets the guest write a table that is write-protected.
    fn writable(&mut self, page: &ShadowPage, place: Hpa, spte: Spte, tables: &ShadowTables) {
        let Some(gfn) = page.leaf_gfn(place.index()) else {
            return;
        };
        if !spte.is_writable() || page.info.level > SEARCHED {
            return;
        }
        let frames = (0..page.info.level.pages()).map(|offset| gfn.0.saturating_add(offset));
        let shadowing = frames.flat_map(|gfn| tables.shadowing(Gfn(gfn)));
        let shadowing = shadowing.filter_map(|spt| tables.page(*spt));
        let outcome = worst(shadowing.map(|table| self.writes(place, page, table, tables)));
        self.count_writable(outcome);
    }

    /// One result for a leaf, or for a table.
    pub(super) fn count_writable(&mut self, outcome: Outcome<'_>) {
        let check = Check::WritableTable;
        match outcome {
            Outcome::Holds => self.tallies.holds(check),
            Outcome::LeftOut(why) => self.tallies.leave_out(check, why),
            Outcome::Violated(place, table) => {
                self.tallies.violated(check, place, || protected(table));
            }
        }
    }

    /// A writable leaf at `place` of a frame that `table` shadows.
    fn writes<'t>(
        &self,
        place: Hpa,
        page: &ShadowPage,
        table: &'t ShadowPage,
        tables: &ShadowTables,
    ) -> Outcome<'t> {
        if table.info.unsync {
            return Outcome::Holds;
        }
        // An obsolete page does not keep the guest from writing its leaf table
        // (`mmu_try_to_unsync_pages`), but always protects an upper one until it is zapped.
        if table.info.level == Level(1) && !self.acts.is_current(table.since, self.sees) {
            return Outcome::LeftOut(Why::MayBeObsolete);
        }
        Outcome::of(
            may_write(self.roles, page, place, table, tables),
            place,
            table,
        )
    }
}

/// What is wrong with a writable leaf.
fn protected(table: &ShadowPage) -> Words {
    let (gfn, level, spt) = (table.info.gfn, table.info.level, table.info.spt);
    Words::new(
        format!("no W: gfn {gfn} holds a table of level {level}, shadowed at {spt}"),
        "a leaf that lets the guest write it",
    )
}
