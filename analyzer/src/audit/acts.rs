//! Acts that must remove leaves or pages, until something shows what they left.

use events::{Gfn, HostEvent, Hpa, PageEvent, Pfn, Role, Seq, Spte, VcpuId};
use trace::{HostRow, PageRow, Sees, WriteRow};

use super::{
    check::{Check, Why},
    roles::Roles,
    tally::{Tallies, Words},
};
use crate::replay::{AddressMap, SeqTime, ShadowTables};

/// Leaves that are remembered at a time. Bounds the memory that a trace takes.
const MOST_LEAVES: usize = 1 << 20;
/// Zapped pages that are remembered of one deletion, likewise.
const MOST_PAGES: usize = 1 << 16;
/// A leaf that an act must remove.
#[derive(Clone, Copy, Debug)]
struct Left {
    pfn: Pfn,
    act: Act,
    since: SeqTime,
}

/// What must remove a leaf.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Of the host.
    Host(HostEvent),
    /// A store of the guest to the entry of a synced table, which KVM emulates. An INVLPG that
    /// follows has nothing more to remove.
    Store,
}

impl Act {
    const fn name(self) -> &'static str {
        match self {
            Self::Host(event) => event.name(),
            Self::Store => "guest_store",
        }
    }
}

/// A memslot that is deleted or moved, and the pages that its thread zapped since.
#[derive(Clone, Debug)]
struct Flush {
    at: SeqTime,
    by: Option<VcpuId>,
    first: u64,
    end: u64,
    zapped: Vec<Zapped>,
    /// The thread did something else since.
    is_over: bool,
}

/// A page that a deletion zapped.
#[derive(Clone, Copy, Debug)]
struct Zapped {
    spt: Hpa,
    gfn: Gfn,
    direct: bool,
    /// It goes with the upper table above it, in whichever memslot (`mmu_zap_unsync_children`).
    unsync: bool,
}

/// The acts of a VM that nothing has settled yet.
#[derive(Clone, Debug, Default)]
pub(super) struct UnsettledActs {
    left: AddressMap<Hpa, Left>,
    flush: Option<Flush>,
    /// The latest deletion of a memslot: pages that are older may be obsolete.
    flushed: Option<Seq>,
    /// A page of the other address space was made.
    has_two_spaces: bool,
}

impl UnsettledActs {
    /// The host does something to a range of frames; the tables are as they were before.
    pub(super) fn begin(
        &mut self,
        row: &HostRow,
        tables: &ShadowTables,
        sees: Sees,
        tallies: &mut Tallies,
    ) {
        self.thread_does(row.vcpu);
        match row.event {
            HostEvent::Unmap | HostEvent::ZapRange => self.remember(row, tables, sees, tallies),
            HostEvent::FlushSlot => {
                self.remember(row, tables, sees, tallies);
                self.end_flush(tables, tallies);
                self.flushed = Some(row.seq);
                self.begin_flush(row, sees, tallies);
            }
            HostEvent::DirtyStart
            | HostEvent::DirtyClear
            | HostEvent::DirtyStop
            | HostEvent::Reread
            | HostEvent::Settled => {}
        }
    }

    fn begin_flush(&mut self, row: &HostRow, sees: Sees, tallies: &mut Tallies) {
        if !sees.every_change {
            // The record comes after the act.
            tallies.leave_out(Check::ZapOutsideSlot, Why::SilentChanges);
            return;
        }
        self.flush = Some(Flush {
            at: SeqTime {
                seq: row.seq,
                time: row.time_ns,
            },
            by: row.vcpu,
            first: row.gfn.0,
            end: row.gfn.0.saturating_add(row.pages),
            zapped: Vec::new(),
            is_over: false,
        });
    }

    fn remember(
        &mut self,
        row: &HostRow,
        tables: &ShadowTables,
        sees: Sees,
        tallies: &mut Tallies,
    ) {
        if self.has_two_spaces {
            // The row does not say whose memslot it was.
            tallies.leave_out(Check::StaleLeaf, Why::OtherSpace);
            return;
        }
        let since = SeqTime {
            seq: row.seq,
            time: row.time_ns,
        };
        let act = Act::Host(row.event);
        let left = &mut self.left;
        let mut found = false;
        tables.each_leaf_in(row.gfn, row.pages, |places| {
            for place in places {
                found = true;
                let Some(spte) = tables.entry(*place) else {
                    continue;
                };
                if left.len() >= MOST_LEAVES {
                    tallies.leave_out(Check::StaleLeaf, Why::TooMany);
                    continue;
                }
                let pfn = spte.pfn();
                left.insert(*place, Left { pfn, act, since });
            }
        });
        if !found && !sees.every_change {
            // The record comes after the act, which has removed what there was.
            tallies.leave_out(Check::StaleLeaf, Why::SilentChanges);
        }
    }

    /// The guest stores to a table; the shadow tables are as they were before.
    pub(super) fn store(
        &mut self,
        row: &WriteRow,
        tables: &ShadowTables,
        roles: Roles,
        tallies: &mut Tallies,
    ) {
        for spt in tables.shadowing(row.gpa.gfn()) {
            let Some(page) = tables.page(*spt) else {
                continue;
            };
            // The guest may change the table of an unsync page freely. Several pages share a table
            // of 4-byte entries, each at places of its own: not followed.
            if page.info.unsync || roles.four_bytes.is_set(page.info.role) {
                continue;
            }
            if self.flushed.is_some_and(|flushed| page.since < flushed) {
                // KVM leaves obsolete pages as they are.
                tallies.leave_out(Check::StaleLeaf, Why::MayBeObsolete);
                continue;
            }
            let first = row.gpa.0 & 0xfff;
            let last = first
                .saturating_add(u64::from(row.bytes.max(1)) - 1)
                .min(0xfff);
            for index in first >> 3..=last >> 3 {
                let place = Hpa(spt.0 | index << 3);
                let spte = page.entry(place.index());
                if !spte.is_leaf(page.info.level) {
                    continue;
                }
                if self.left.len() >= MOST_LEAVES {
                    tallies.leave_out(Check::StaleLeaf, Why::TooMany);
                    continue;
                }
                let left = Left {
                    pfn: spte.pfn(),
                    act: Act::Store,
                    since: SeqTime {
                        seq: row.seq,
                        time: row.time_ns,
                    },
                };
                self.left.insert(place, left);
            }
        }
    }

    /// A record gives the value at `place`.
    pub(super) fn named(&mut self, place: Hpa, spte: Spte, tallies: &mut Tallies) {
        if !self.left.is_empty() && self.left.remove(&place).is_some() && !spte.is_shadow_present()
        {
            tallies.holds(Check::StaleLeaf);
        }
    }

    /// A page with this role was made, or is in a keyframe.
    pub(super) fn sees_role(&mut self, role: Role, roles: Roles) {
        self.has_two_spaces |= roles.smm.is_set(role);
    }

    /// An event of a page; `was_there` before it: a root in use is zapped, and once more when its
    /// last user leaves it.
    pub(super) fn page(&mut self, row: &PageRow, was_there: bool, roles: Roles) {
        self.sees_role(row.role, roles);
        let zapped = row.event == PageEvent::Zapped && was_there;
        let Some(flush) = self.flush.as_mut().filter(|_| zapped) else {
            return;
        };
        if !flush.is_over && flush.by == row.vcpu && flush.zapped.len() < MOST_PAGES {
            flush.zapped.push(Zapped {
                spt: row.spt,
                gfn: row.gfn,
                direct: row.direct != 0,
                unsync: row.unsync != 0,
            });
        }
    }

    /// The thread of a vCPU, or another one, does something that is no part of a deletion.
    pub(super) fn thread_does(&mut self, by: Option<VcpuId>) {
        if let Some(flush) = self.flush.as_mut().filter(|flush| flush.by == by) {
            flush.is_over = true;
        }
    }

    /// Whether a page made at `since` is surely not obsolete.
    pub(super) fn is_current(&self, since: Seq, sees: Sees) -> bool {
        let after = self.flushed.is_none_or(|flushed| flushed < since);
        sees.every_change && sees.from_birth && after
    }

    /// A keyframe has shown what is left of acts before its first copy, `begun`. Later ones may have
    /// come after the copy of a page: they wait for the next keyframe.
    pub(super) fn settle(&mut self, begun: Seq, tables: &ShadowTables, tallies: &mut Tallies) {
        let mut due = Vec::new();
        self.left.retain(|place, left| {
            let waits = left.since.seq >= begun;
            if !waits {
                due.push((*place, *left));
            }
            waits
        });
        let mut stale = Vec::new();
        for (place, left) in due {
            let page = tables.page(place.table());
            let entry = page.map(|page| (page.entry(place.index()), page.info.level));
            let is_there =
                entry.is_some_and(|(spte, level)| spte.is_leaf(level) && spte.pfn() == left.pfn);
            match is_there {
                true => stale.push((place, left)),
                false => tallies.holds(Check::StaleLeaf),
            }
        }
        stale.sort_by_key(|(place, _)| *place);
        let since = tallies.now.since;
        for (place, left) in stale {
            tallies.now.since = left.since;
            tallies.violated(Check::StaleLeaf, place, || {
                let (act, seq) = (left.act.name(), left.since.seq.0);
                let pfn = left.pfn.0;
                Words::new(
                    format!("no leaf since the act {act} of seq {seq}"),
                    format!("the leaf of pfn {pfn:#x} that was there before it"),
                )
            });
        }
        tallies.now.since = since;
        if self.flush.as_ref().is_some_and(|of| of.at.seq < begun) {
            self.end_flush(tables, tallies);
        }
    }

    /// The latest deletion of a memslot is done.
    fn end_flush(&mut self, tables: &ShadowTables, tallies: &mut Tallies) {
        let Some(flush) = self.flush.take() else {
            return;
        };
        let check = Check::ZapOutsideSlot;
        if flush.zapped.is_empty() {
            tallies.holds(check);
            return;
        }
        // Where all pages go, none that is older is left.
        if tables.pages().all(|page| page.since > flush.at.seq) {
            tallies.leave_out(check, Why::ZapsAll);
            return;
        }
        let since = tallies.now.since;
        tallies.now.since = flush.at;
        for page in &flush.zapped {
            let within = flush.first <= page.gfn.0 && page.gfn.0 < flush.end;
            if page.unsync && !within {
                tallies.leave_out(check, Why::UnsyncChild);
                continue;
            }
            tallies.check(check, !page.direct && within, page.spt, || {
                let (first, last) = (flush.first, flush.end.saturating_sub(1));
                let kind = if page.direct {
                    "a direct page"
                } else {
                    "a page"
                };
                let (gfn, seq) = (page.gfn, flush.at.seq.0);
                Words::new(
                    format!("only pages that shadow tables in gfn {first:#x} to {last:#x} go"),
                    format!("{kind} of gfn {gfn} zapped by the deletion of seq {seq}"),
                )
            });
        }
        tallies.now.since = since;
    }

    /// There are no more records.
    pub(super) fn finish(&mut self, tables: &ShadowTables, tallies: &mut Tallies) {
        for _ in self.left.drain() {
            tallies.leave_out(Check::StaleLeaf, Why::NoKeyframe);
        }
        self.end_flush(tables, tallies);
    }
}
