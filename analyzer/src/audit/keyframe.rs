//! Checks of all tables at a keyframe, which holds KVM's own.

use events::{Gfn, Hpa};

use super::{
    Audit,
    check::{Check, Why},
    leaves::{MOST_TRIED, Outcome, worst},
    spaces::may_write,
    tally::Words,
};
use crate::replay::{SeqTime, ShadowPage, ShadowTables};

impl Audit {
    /// The tables were set against a whole keyframe, and are KVM's own now.
    pub(super) fn keyframe(&mut self, tables: &ShadowTables, begun: SeqTime) {
        self.tallies.now.in_keyframe = true;
        self.acts.settle(begun.seq, tables, &mut self.tallies);
        let span = [begun.time, self.tallies.now.at.time];
        for page in tables.sorted_pages() {
            for place in tables.parents(page.info.spt) {
                if let Some(parent) = tables.page(place.table()) {
                    self.link(&parent.info, *place, &page.info);
                }
            }
            self.rooted(page);
            self.protects(page, tables);
            if page.info.direct {
                self.direct_leaves(page, tables);
            }
        }
        for (gfn, level, places) in tables.known_leaves() {
            if let [place, ..] = places {
                self.slot_of(gfn, level, *place, span);
            }
        }
    }

    /// KVM takes a zapped root off the list of its pages.
    fn rooted(&mut self, page: &ShadowPage) {
        let check = Check::InvalidRoot;
        let Some(invalid) = self.roles.invalid.of(page.info.role) else {
            self.tallies.leave_out(check, Why::NoRoleField);
            return;
        };
        let holds = invalid == 0 || page.present() == 0;
        self.tallies.check(check, holds, page.info.spt, || {
            let found = format!("a page of level {} with entries", page.info.level);
            Words::new("no entry in a page whose role is invalid", found)
        });
    }

    /// No leaf lets the guest write the table that a page shadows, unless it is unsync.
    fn protects(&mut self, table: &ShadowPage, tables: &ShadowTables) {
        if table.info.direct || table.info.unsync {
            return;
        }
        let leaves = tables.leaves_of_any_level(table.info.gfn).map(|place| {
            let Some(page) = tables.page(place.table()) else {
                return Outcome::Holds;
            };
            match page.entry(place.index()).is_writable() {
                true => Outcome::of(
                    may_write(self.roles, page, place, table, tables),
                    place,
                    table,
                ),
                false => Outcome::Holds,
            }
        });
        let outcome = worst(leaves);
        self.count_writable(outcome);
    }

    /// The leaves of a direct page map what other leaves of the same guest frame map.
    fn direct_leaves(&mut self, page: &ShadowPage, tables: &ShadowTables) {
        for (index, spte) in page.entries() {
            let Some(gfn) = page
                .leaf_gfn(index)
                .filter(|_| spte.is_leaf(page.info.level))
            else {
                continue;
            };
            let place = page.place(index);
            let Some((other, demanded)) = self.other_frame(page, gfn, place, tables) else {
                continue;
            };
            let check = Check::DirectLeafFrame;
            self.tallies
                .check(check, spte.pfn().0 == demanded, place, || {
                    Words::new(
                        format!("pfn {demanded:#x}, which the entry {other} has for gfn {gfn}"),
                        format!("pfn {:#x}", spte.pfn().0),
                    )
                });
        }
    }

    /// Another leaf of the frame in the same address space, and the host frame that it gives.
    fn other_frame(
        &self,
        page: &ShadowPage,
        gfn: Gfn,
        place: Hpa,
        tables: &ShadowTables,
    ) -> Option<(Hpa, u64)> {
        let space = self.roles.smm.of(page.info.role)?;
        let leaves = tables.leaves_of_any_level(gfn).take(MOST_TRIED);
        let mut others = leaves.filter(|other| *other != place);
        others.find_map(|other| {
            let of = tables.page(other.table())?;
            // A direct page proves nothing about another.
            let fits = !of.info.direct && self.roles.smm.of(of.info.role) == Some(space);
            let within = gfn.0.checked_sub(of.leaf_gfn(other.index())?.0)?;
            let pfn = of.entry(other.index()).pfn().0.wrapping_add(within);
            fits.then_some((other, pfn))
        })
    }
}
